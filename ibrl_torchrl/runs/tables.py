"""CSV tables of a run folder: column names, reading, appending."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import flush_to_disk, full_disk_reported, open_in_place

RECENT = 20  # training episodes in a moving average
RECENT_SUCCESS = f"success_last_{RECENT}_episodes"
INTERVENTION_SHARE = "intervention_share"  # of an episode's frames
DIAGNOSIS_ROLLOUT_COLUMNS = ("policy", "source", "episode", "step", "success", "error")


def share_column(use: Literal["acting", "target"], proposal: str) -> str:
    """Column of the share of actions, or of TD targets, that a proposal provides."""
    return f"proposal_share/{use}/{proposal}"


def frames_column(proposal: str) -> str:
    """Column of the number of frames in which a proposal was executed."""
    return f"proposal_frames/{proposal}"


def imitation_loss_column(proposal: str) -> str:
    """Column of the loss of an imitation policy that goes on learning during RL."""
    return f"loss_imitation/{proposal}"


def value_column(proposal: str) -> str:
    """Column of the critics' value of a proposal's action."""
    return f"value/{proposal}"


def distance_column(proposal: str) -> str:
    """Column of the Euclidean distance of a proposal's action from the executed one."""
    return f"distance/{proposal}"


def train_columns(
    acting: Sequence[str],
    target: Sequence[str],
    metrics: Iterable[str],
    *,
    interventions: bool = False,
) -> list[str]:
    """Columns of ``train.csv``.

    Args:
        acting: names of the proposals while acting.
        target: names of the proposals in the TD target.
        metrics: scalars that the loss reports, such as ``"loss_qvalue"``.
        interventions: somebody else may act in training episodes. Default False.
    """
    return [
        *("frames", "episodes", "rounds", "wall_s", "episode_success", RECENT_SUCCESS),
        "episode_frames",
        *(share_column("acting", name) for name in acting),
        *([INTERVENTION_SHARE] if interventions else []),
        *metrics,
        *(share_column("target", name) for name in target),
    ]


def eval_columns(proposals: Sequence[str]) -> list[str]:
    """Columns of ``eval.csv``, one row a policy and evaluation."""
    return [
        *("frames", "wall_s", "policy", "episodes", "success", "success_low", "success_high"),
        "success_length",
        *(share_column("acting", name) for name in proposals),
    ]


def evaluation_columns(proposals: Sequence[str]) -> list[str]:
    """Columns of ``evaluation.csv``, one row a policy and episode of the final evaluation."""
    return [
        *("frames", "policy", "seed", "success", "length"),
        *(frames_column(name) for name in proposals),
    ]


def diagnosis_step_columns(proposals: Sequence[str]) -> list[str]:
    """Columns of ``diagnosis_steps.csv``, one row a step of a scored episode.

    Args:
        proposals: names, the RL actor's first; the others have a distance from the executed action.
    """
    return [
        *("seed", "step", "length", "success", "proposal", "value", "return"),
        *(value_column(name) for name in proposals),
        *(distance_column(name) for name in proposals[1:]),
    ]


def read_rows(file: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file by column name."""
    with file.open(newline="") as table:
        return [*csv.DictReader(table)]


def flatten_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten nested settings to dotted names.

    Example:
        >>> from ibrl_torchrl.runs.tables import flatten_settings
        >>> dict(flatten_settings({"seed": 1, "algo": {"update": {"lr": 0.0003}}}))
        {'seed': 1, 'algo.update.lr': 0.0003}
    """
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flatten_settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def require_length(path: Path, size: int) -> None:
    """Refuse a table that has lost rows since the checkpoint.

    Args:
        path: file of the table.
        size: its bytes at the checkpoint.

    Raises:
        UsageError: the file is shorter, or missing.
    """
    if not path.is_file() or path.stat().st_size < size:
        raise UsageError(
            f"{path}: is shorter than the {size} bytes that it had at the checkpoint; restore it "
            "or start the run again"
        )


class CsvTable:
    """Append-only CSV file.

    Args:
        path: file to write.
        columns: header. A row may omit columns; unknown ones raise ValueError.
        size: bytes of an existing file to keep, as :meth:`sync` returned them; later rows are
            removed, and columns that its header lacks are left out, so that every row fits the
            header. None (default) starts a new file.

    Raises:
        UsageError: the file is a link, is shorter than ``size``, or cannot be written.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, size: int | None = None) -> None:
        self._path = path
        if size is not None:
            require_length(path, size)
        # Unbuffered: what a full disk has refused is not tried again on close.
        self._file = open_in_place(path, "wb" if size is None else "r+b")
        header = [*columns] if size is None else _header(self._file.readline())
        self._omitted = {*columns} - {*header}
        self._row = io.StringIO(newline="")
        self._writer = csv.DictWriter(self._row, header)
        if size is None:
            self._writer.writeheader()
            self._append()
        else:
            self._file.truncate(size)
            self._file.seek(size)

    def sync(self) -> int:
        """Flush all rows to disk; returns the file's size in bytes.

        Raises:
            UsageError: the disk is full.
        """
        with full_disk_reported(self._path):
            flush_to_disk(self._file.fileno())
        return self._file.tell()

    def write(self, row: Mapping[str, object]) -> None:
        """Append one row; floats have six significant digits.

        Raises:
            UsageError: the disk is full.
        """
        self._writer.writerow(
            {
                column: f"{value:.6g}" if isinstance(value, float) else value
                for column, value in row.items()
                if column not in self._omitted
            }
        )
        self._append()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self) -> None:
        content = self._row.getvalue().encode()
        self._row.seek(0)
        self._row.truncate()
        with full_disk_reported(self._path):
            while content:
                content = content[self._file.write(content) :]


def _header(line: bytes) -> list[str]:
    return next(csv.reader([line.decode()]), [])
