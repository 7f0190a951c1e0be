"""Where numbers go: a CSV file always, TensorBoard and Weights & Biases on request."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from torchrl.record.loggers.common import Logger

from ibrl_torchrl.errors import require_extra


class CsvTable:
    """A CSV file that grows by whole lines.

    Args:
        path: file to write.
        columns: its header. A row may leave entries out; others are refused.
        size: go on with an existing file after so many bytes, what :meth:`sync` gave; what follows
            is cut off. None (default) replaces it.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, size: int | None = None) -> None:
        self._file = path.open("w" if size is None else "r+", newline="")
        self._writer = csv.DictWriter(self._file, columns)
        if size is None:
            self._writer.writeheader()
        else:
            self._file.truncate(size)
            self._file.seek(size)
        self._file.flush()

    def sync(self) -> int:
        """Wait until all rows are on the disk; the file's size in bytes."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def write(self, row: Mapping[str, object]) -> None:
        """Append one row, on disk when this returns."""
        self._writer.writerow(
            {key: f"{v:.6g}" if isinstance(v, float) else v for key, v in row.items()}
        )
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def require_trackers(*, tensorboard: bool, wandb: str) -> None:
    """Refuse trackers that are not installed, before a run has begun.

    Raises:
        UsageError: with the install line.
    """
    if tensorboard:
        require_extra("tensorboard", "tensorboard")
    if wandb != "disabled":
        require_extra("wandb", "wandb")


def tracking_loggers(
    run_dir: Path, config: Mapping[str, object], *, tensorboard: bool, wandb: str, project: str
) -> list[Logger]:
    """TorchRL loggers for the trackers that were asked for.

    Args:
        run_dir: where they keep their files; its name names the run.
        config: the run's settings, kept with the run at Weights & Biases.
        tensorboard: write TensorBoard event files.
        wandb: ``"disabled"``, ``"online"`` or ``"offline"``.
        project: Weights & Biases project.
    """
    loggers: list[Logger] = []
    if tensorboard:
        from torchrl.record.loggers.tensorboard import TensorboardLogger

        loggers.append(TensorboardLogger("tensorboard", log_dir=str(run_dir)))
    if wandb != "disabled":
        from torchrl.record.loggers.wandb import WandbLogger

        loggers.append(
            WandbLogger(
                run_dir.name,
                offline=wandb == "offline",
                save_dir=str(run_dir),
                project=project,
                config=dict(config),
            )
        )
    return loggers
