"""Tables of single runs: lists of rows, as written to CSV files and to the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ibrl_torchrl.keys import HYBRID, RL
from ibrl_torchrl.reports.comparison import Comparison
from ibrl_torchrl.reports.curves import run_curve
from ibrl_torchrl.reports.statistics import first_crossing
from ibrl_torchrl.runs.dip import dip_below_imitation
from ibrl_torchrl.runs.reader import EvalPoint, Run

Row = dict[str, Any]
THRESHOLDS = (50, 90)  # success rates in per cent


def success_column(policy: str) -> str:
    """Column of a policy's success rate when it acts without the critics' choice."""
    return f"success/{policy}"


def length_column(policy: str) -> str:
    """Column of the mean length of a policy's successful episodes."""
    return f"length/{policy}"


def run_table(comparison: Comparison) -> list[Row]:
    """Success, dip, duration, commit and command of each run; what a run lacks is None."""
    return [
        {
            "method": method,
            "seed": run.seed,
            "success": run.success(HYBRID),
            "while_learning": mean_success(comparison, run),
            "dip": dip_depth(run),
            **{
                success_column(policy): run.success(policy) if policy in run.final else None
                for policy in (RL, *comparison.imitation)
            },
            "minutes": run.curves[HYBRID][-1].seconds / 60,
            "commit": run.provenance.get("commit"),
            "command": run.provenance.get("command"),
        }
        for method, runs in comparison.methods.items()
        for run in runs
    ]


def speed_table(comparison: Comparison) -> list[Row]:
    """Frames and minutes until each run's hybrid first reaches 50 % and 90 %; None if never."""
    return [
        {
            "method": method,
            "seed": run.seed,
            **{
                f"{unit}_to_{threshold}": crossing(run, threshold, time)
                for threshold in THRESHOLDS
                for unit, time in (("frames", frames_of), ("minutes", _minutes))
            },
        }
        for method, runs in comparison.methods.items()
        for run in runs
    ]


def length_table(comparison: Comparison) -> list[Row]:
    """Mean length of each policy's successful final episodes in frames (paper, Table 1)."""
    return [
        {
            "method": method,
            "seed": run.seed,
            **{
                length_column(policy): run.success_length(policy) if policy in run.final else None
                for policy in (*comparison.imitation, HYBRID)
            },
        }
        for method, runs in comparison.methods.items()
        for run in runs
    ]


def mean_success(comparison: Comparison, run: Run) -> float:
    """Success rate of a run's hybrid averaged over all evaluations."""
    return float(np.mean([*run_curve(comparison, run, HYBRID).values()]))


def dip_depth(run: Run) -> float | None:
    """Depth of the hybrid's dip below the imitation policy; None without one to measure."""
    dip = dip_below_imitation(run)
    return None if dip is None else float(dip["depth"])


def crossing(run: Run, threshold: int, time: Callable[[EvalPoint], float]) -> float | None:
    """Time at which a run's hybrid first reaches a success rate in per cent; None if never."""
    points = run.curves[HYBRID]
    return first_crossing(
        threshold / 100, [time(point) for point in points], [point.success for point in points]
    )


def frames_of(point: EvalPoint) -> float:
    """Training frames of an evaluation."""
    return point.frames


def _minutes(point: EvalPoint) -> float:
    return point.seconds / 60
