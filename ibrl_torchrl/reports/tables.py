"""Tables of a comparison: lists of rows, as written to CSV files and to the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ibrl_torchrl.keys import HYBRID, RL
from ibrl_torchrl.reports.comparison import (
    Comparison,
    format_setting,
    is_input_path,
)
from ibrl_torchrl.reports.curves import run_curve
from ibrl_torchrl.reports.statistics import (
    Estimate,
    Scores,
    bootstrap,
    first_crossing,
    interquartile_mean,
    probability_of_improvement,
)
from ibrl_torchrl.runs.reader import EvalPoint, Run
from ibrl_torchrl.runs.tables import share_column

Row = dict[str, Any]
THRESHOLDS = (50, 90)  # success rates in per cent


def success_column(policy: str) -> str:
    """Column of a policy's success rate when it acts without the critics' choice."""
    return f"success/{policy}"


def length_column(policy: str) -> str:
    """Column of the mean length of a policy's successful episodes."""
    return f"length/{policy}"


def final_table(comparison: Comparison) -> list[Row]:
    """Success of each method over runs, one row a method.

    Columns: interquartile mean and interval of the hybrid's success in the final evaluation
    (``success``) and averaged over all evaluations, which is the area under the learning curve
    (``while_learning``); final success of the RL actor and of each imitation policy; mean share of
    each imitation policy among the hybrid's final actions. Policies that a method lacks are None.
    """
    return [
        {
            "method": method,
            "runs": len(runs),
            "episodes": sum(len(run.final[HYBRID]) for run in runs),
            **_columns("success", bootstrap(interquartile_mean, _success(runs, HYBRID))),
            **_columns(
                "while_learning", bootstrap(interquartile_mean, _mean_success(comparison, runs))
            ),
            **{
                success_column(policy): float(interquartile_mean(_success(runs, policy)))
                if all(policy in run.final for run in runs)
                else None
                for policy in (RL, *comparison.imitation)
            },
            **{
                share_column("acting", name): _proposal_share(runs, name)
                for name in comparison.imitation
            },
        }
        for method, runs in comparison.methods.items()
    ]


def run_table(comparison: Comparison) -> list[Row]:
    """Final success, duration, commit and command of each run."""
    return [
        {
            "method": method,
            "seed": run.seed,
            "success": run.success(HYBRID),
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


def improvement_table(comparison: Comparison) -> list[Row]:
    """Probability of improvement for each ordered pair of methods.

    Of the final success, and of the success averaged over all evaluations.
    """
    methods = comparison.methods
    final = {name: _success(runs, HYBRID) for name, runs in methods.items()}
    mean = {name: _mean_success(comparison, runs) for name, runs in methods.items()}
    return [
        {
            "method": x,
            "than": y,
            **_columns("probability", bootstrap(probability_of_improvement, final[x], final[y])),
            **_columns("while_learning", bootstrap(probability_of_improvement, mean[x], mean[y])),
        }
        for x in methods
        for y in methods
        if x != y
    ]


def speed_table(comparison: Comparison) -> list[Row]:
    """Frames and minutes until each run's hybrid first reaches 50 % and 90 %; None if never."""
    return [
        {
            "method": method,
            "seed": run.seed,
            **{
                f"{unit}_to_{threshold}": first_crossing(
                    threshold / 100,
                    [time(point) for point in run.curves[HYBRID]],
                    [point.success for point in run.curves[HYBRID]],
                )
                for threshold in THRESHOLDS
                for unit, time in (("frames", _frames), ("minutes", _minutes))
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


def settings_table(comparison: Comparison) -> list[Row]:
    """Settings that differ between methods, one row a setting and one column a method."""
    settings = {method: method_settings(runs[0]) for method, runs in comparison.methods.items()}
    rows = []
    for name in sorted({name for values in settings.values() for name in values}):
        row = {method: values.get(name) for method, values in settings.items()}
        if name != "algo.name" and len({str(value) for value in row.values()}) > 1:
            rows.append({"setting": name, **row})
    return rows


def method_settings(run: Run) -> dict[str, Any]:
    """Settings of algo, imitation and replay by dotted names, without paths; lists as text."""
    return {
        name: format_setting(value) if isinstance(value, list) else value
        for group in ("algo", "imitation", "replay")
        for name, value in run.settings.items()
        if name.split(".")[0] == group and not is_input_path(name)
    }


def _success(runs: Sequence[Run], policy: str) -> Scores:
    """Final success rates [R, 1] of a policy."""
    return np.array([[run.success(policy)] for run in runs])


def _mean_success(comparison: Comparison, runs: Sequence[Run]) -> Scores:
    """Success rates [R, 1] of the hybrid averaged over all evaluations."""
    curves = [run_curve(comparison, run, HYBRID) for run in runs]
    return np.array([[np.mean([*curve.values()])] for curve in curves])


def _proposal_share(runs: Sequence[Run], name: str) -> float | None:
    """Mean over runs of a proposal's share in the hybrid's final actions."""
    if not all(name in run.proposals for run in runs):
        return None
    return float(np.mean([run.proposal_share(HYBRID, name) for run in runs]))


def _columns(name: str, estimate: Estimate) -> Row:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _frames(point: EvalPoint) -> float:
    return point.frames


def _minutes(point: EvalPoint) -> float:
    return point.seconds / 60
