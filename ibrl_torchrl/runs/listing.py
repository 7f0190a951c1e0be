"""Run folders at a glance: state, success and time, read without PyTorch."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import HYBRID
from ibrl_torchrl.runs import fields
from ibrl_torchrl.runs.folder import has_checkpoint, is_finished, is_locked
from ibrl_torchrl.runs.manifest import require_no_links
from ibrl_torchrl.runs.names import (
    CONFIG,
    EVAL,
    EVALUATION,
    PROVENANCE,
    TIMING,
    TRAIN,
)
from ibrl_torchrl.runs.plain import read_json, read_yaml
from ibrl_torchrl.runs.tables import read_rows

FINISHED, RUNNING, INTERRUPTED, UNSAVED = "finished", "running", "interrupted", "no checkpoint"
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class RunSummary:
    """Run folder at a glance.

    Attributes:
        path: run folder.
        state: ``"finished"``; ``"running"``, locked by a process; ``"interrupted"``, which
            ``ibrl train resume=`` resumes; ``"no checkpoint"``, which starts again; or
            ``"unreadable"``, where the other fields are empty.
        task: suite and task, such as ``"metaworld/box-close"``.
        method: ``algo.name``, or ``"imitation"`` for ``ibrl bc`` and ``ibrl dagger``.
        seed: seed of the run.
        frames: training frames so far, after action repeat.
        total_frames: budget of frames; 0 for those of imitation alone.
        success: success rate of the final evaluation, else of the last one, of the hybrid, and of
            an imitation policy where the hybrid has none; None without an evaluation.
        minutes: wall time so far; None where no table has it.
    """

    path: Path
    state: str
    task: str = ""
    method: str = ""
    seed: int | None = None
    frames: int = 0
    total_frames: int = 0
    success: float | None = None
    minutes: float | None = None


def list_runs(folders: Iterable[Path]) -> list[RunSummary]:
    """Runs in some folders and their subfolders, without duplicates, sorted by path.

    A run folder that cannot be read is listed as such.

    Raises:
        UsageError: a folder does not exist or contains no run.
    """
    runs: dict[Path, RunSummary] = {}
    for folder in folders:
        found = [run for run in map(_summary, sorted(folder.rglob(CONFIG))) if run is not None]
        if not found:
            raise UsageError(f"{folder}: contains no run (a folder with {CONFIG} and {PROVENANCE})")
        runs |= {run.path.resolve(): run for run in found if run.path.resolve() not in runs}
    return sorted(runs.values(), key=lambda run: run.path)


def format_runs(runs: Iterable[RunSummary]) -> Iterator[str]:
    """Lines of a table, the header first."""
    header = ("run", "state", "task", "method", "seed", "frames", "success", "minutes")
    rows = [header, *map(_cells, runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        left = (cell.ljust(width) for cell, width in zip(row[:4], widths[:4], strict=True))
        right = (cell.rjust(width) for cell, width in zip(row[4:], widths[4:], strict=True))
        yield "  ".join([*left, *right]).rstrip()


def _cells(run: RunSummary) -> tuple[str, ...]:
    frames = f"{run.frames}/{run.total_frames}" if run.total_frames else "-"
    return (
        *(str(run.path), run.state, run.task or "-", run.method or "-"),
        "-" if run.seed is None else str(run.seed),
        frames,
        "-" if run.success is None else f"{run.success:.2f}",
        "-" if run.minutes is None else f"{run.minutes:.1f}",
    )


def _summary(config_file: Path) -> RunSummary | None:
    """Summary of the run of a configuration file; None for files of other programs."""
    path = config_file.parent
    if not (path / PROVENANCE).is_file():
        return None
    try:
        require_no_links(path)
        return _read(path, read_yaml(config_file))
    except (UsageError, OSError, csv.Error, AttributeError, KeyError, TypeError, ValueError):
        return RunSummary(path, UNREADABLE)


def _read(path: Path, config: Mapping[str, Any]) -> RunSummary:
    imitation = next(iter(config["imitation"]), HYBRID)
    policy = HYBRID if "algo" in config else imitation
    evaluations = _rows(path / EVAL)
    training = _rows(path / TRAIN)[-1:]
    final = [row for row in _rows(path / EVALUATION) if row["policy"] == policy]
    final = [row for row in final if row["frames"] == final[-1]["frames"]]  # of ibrl dagger's last
    recent = [row for row in evaluations if row["policy"] in (policy, imitation)]
    success = fields.fraction(recent[-1]["success"]) if recent else None
    if final:
        success = sum(fields.flag(row["success"]) for row in final) / len(final)
    progress = (*training, *evaluations[-1:])
    seconds = [fields.finite(row["wall_s"]) for row in progress]
    if (path / TIMING).is_file():
        seconds = [fields.finite(read_json(path / TIMING)["wall"])]
    return RunSummary(
        path=path,
        state=_state(path),
        task=fields.name(f"{config['task']['suite']}/{config['task']['name']}"),
        method=fields.name(config["algo"]["name"]) if "algo" in config else "imitation",
        seed=fields.count(config["seed"]),
        frames=max([fields.count(row["frames"]) for row in progress], default=0),
        total_frames=fields.count(config.get("total_frames", 0)),
        success=success,
        minutes=max(seconds) / 60 if seconds else None,
    )


def _rows(file: Path) -> list[dict[str, str]]:
    return read_rows(file) if file.is_file() else []


def _state(path: Path) -> str:
    if is_finished(path):
        return FINISHED
    if is_locked(path):
        return RUNNING
    return INTERRUPTED if has_checkpoint(path) else UNSAVED
