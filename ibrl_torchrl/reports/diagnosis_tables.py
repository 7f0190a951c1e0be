"""What ``ibrl diagnose`` has left in run folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.reports.comparison import Comparison
from ibrl_torchrl.runs.tables import read_rows

MOMENTS_FILE = "diagnosis_moments.csv"
RESTARTS_FILE = "diagnosis_restarts.csv"
PARTS = 10  # of an episode
_OF_MOMENTS = ("step", "length", "proposal", "value", "rl_value", "il_value")

Row = dict[str, Any]


@dataclass(frozen=True)
class Diagnosis:
    """A run's moments and restarts, as rows of strings."""

    method: str
    seed: int
    moments: Sequence[dict[str, str]]
    restarts: Sequence[dict[str, str]]


def diagnoses(comparison: Comparison) -> list[Diagnosis]:
    """Those of the runs that have been diagnosed.

    Raises:
        UsageError: a table cannot be read.
    """
    return [
        Diagnosis(
            method,
            run.seed,
            _rows(run.path / MOMENTS_FILE, numbers=_OF_MOMENTS, untold=["return"]),
            _rows(run.path / RESTARTS_FILE, numbers=["step"], untold=["error"]),
        )
        for method, runs in comparison.methods.items()
        for run in runs
        if (run.path / MOMENTS_FILE).is_file() and (run.path / RESTARTS_FILE).is_file()
    ]


def diagnosis_table(found: Iterable[Diagnosis]) -> list[Row]:
    """How far values are from returns, and how the BC policy fares off the demonstrations."""
    return [
        {
            "method": each.method,
            "seed": each.seed,
            "gap_solved": _mean(each.moments, _gap, success="1"),
            "gap_failed": _mean(each.moments, _gap, success="0"),
            "bc_demonstrated": _mean(each.restarts, _succeeded, source="demonstrated"),
            "bc_visited": _mean(each.restarts, _succeeded, source="visited"),
            "error_demonstrated": _mean(each.restarts, _error, source="demonstrated"),
            "error_visited": _mean(each.restarts, _error, source="visited"),
        }
        for each in found
    ]


def by_part(
    found: Diagnosis, figure: Callable[[dict[str, str]], float]
) -> tuple[list[float], list[float]]:
    """Means of a figure in each tenth of the episodes: where, as shares of an episode, and what."""
    inside: list[list[float]] = [[] for _ in range(PARTS)]
    for row in found.moments:
        inside[int(row["step"]) * PARTS // int(row["length"])].append(figure(row))
    told = [(part + 0.5) / PARTS for part in range(PARTS) if inside[part]]
    return told, [float(np.mean(values)) for values in inside if values]


def is_imitation(row: dict[str, str]) -> float:
    """Whether the imitation policy's action was executed."""
    return float(int(row["proposal"]) > 0)


def advantage(row: dict[str, str]) -> float:
    """How much more the critics expect of the imitation policy's action than of the RL actor's."""
    return float(row["il_value"]) - float(row["rl_value"])


def _gap(row: dict[str, str]) -> float | None:
    return float(row["value"]) - float(row["return"]) if row["return"] else None


def _succeeded(row: dict[str, str]) -> float:
    return float(row["success"] == "True")


def _error(row: dict[str, str]) -> float | None:
    return float(row["error"]) if row["error"] else None


def _mean(
    rows: Iterable[dict[str, str]], figure: Callable[[dict[str, str]], float | None], **where: str
) -> float | None:
    """Mean of what a figure says of the rows with these entries; None where it says nothing."""
    chosen = (row for row in rows if all(row[key] == value for key, value in where.items()))
    told = [value for row in chosen if (value := figure(row)) is not None]
    return float(np.mean(told)) if told else None


def _rows(file: Path, *, numbers: Sequence[str], untold: Sequence[str]) -> list[dict[str, str]]:
    """A table whose ``numbers`` are numbers, and whose ``untold`` ones may be missing in a row."""
    try:
        rows = read_rows(file)
        for row in rows:
            for name in (*numbers, *filter(row.get, untold)):
                float(row[name])
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{file}: not a table of ibrl diagnose, or a damaged one") from error
    return rows
