"""The tables of a comparison: one list of rows each, as they go to CSV files and to the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ibrl_torchrl.reports.comparison import JUDGED, Comparison
from ibrl_torchrl.reports.curves import on_common_frames
from ibrl_torchrl.reports.statistics import (
    Estimate,
    Scores,
    bootstrap,
    first_reaching,
    interquartile_mean,
    probability_of_improvement,
)
from ibrl_torchrl.runs.reader import EvalPoint, Run

Row = dict[str, Any]
LEVELS = (0.5, 0.9)


def final_table(comparison: Comparison) -> list[Row]:
    """Success of each method, over runs: of the hybrid, at the end and on average over all
    evaluations while it learned; of its RL actor alone and of its BC policy."""
    return [
        {
            "method": method,
            "runs": len(runs),
            "episodes": sum(len(run.final[JUDGED]) for run in runs),
            **_columns("success", bootstrap(interquartile_mean, _success(runs, JUDGED))),
            **_columns(
                "while_learning",
                bootstrap(interquartile_mean, _while_learning(comparison, runs)),
            ),
            "rl_alone": float(interquartile_mean(_success(runs, "rl"))),
            "bc_policy": float(interquartile_mean(_success(runs, "bc"))),
            "il_share": float(np.mean([_il_share(run) for run in runs])),
        }
        for method, runs in comparison.methods.items()
    ]


def run_table(comparison: Comparison) -> list[Row]:
    """Every run by itself."""
    return [
        {
            "method": method,
            "seed": run.seed,
            "success": run.success(JUDGED),
            "rl_alone": run.success("rl"),
            "bc_policy": run.success("bc"),
            "minutes": run.curves[JUDGED][-1].seconds / 60,
            "commit": run.origin.get("commit"),
            "command": run.origin.get("command"),
        }
        for method, runs in comparison.methods.items()
        for run in runs
    ]


def improvement_table(comparison: Comparison) -> list[Row]:
    """For each pair of methods, how probable it is that a run of the first ends higher, and that
    it is higher on average while it learns."""
    methods = comparison.methods
    in_the_end = {name: _success(runs, JUDGED) for name, runs in methods.items()}
    learning = {name: _while_learning(comparison, runs) for name, runs in methods.items()}
    return [
        {
            "method": ours,
            "than": theirs,
            **_improvement("probability", in_the_end[ours], in_the_end[theirs]),
            **_improvement("while_learning", learning[ours], learning[theirs]),
        }
        for ours in methods
        for theirs in methods
        if ours != theirs
    ]


def speed_table(comparison: Comparison) -> list[Row]:
    """When each run's hybrid was first evaluated at 50 and at 90 %; empty where it never was."""
    return [
        {
            "method": method,
            "seed": run.seed,
            **{
                f"{unit}_to_{level:.0%}".replace("%", ""): first_reaching(
                    level,
                    [at(point) for point in run.curves[JUDGED]],
                    [point.success for point in run.curves[JUDGED]],
                )
                for level in LEVELS
                for unit, at in (("frames", _frames), ("minutes", _minutes))
            },
        }
        for method, runs in comparison.methods.items()
        for run in runs
    ]


def length_table(comparison: Comparison) -> list[Row]:
    """Table 1 of the paper: mean length of the solved final episodes of BC policy and hybrid."""
    return [
        {
            "method": method,
            "seed": run.seed,
            "bc_policy": run.success_length("bc"),
            "method_itself": run.success_length(JUDGED),
        }
        for method, runs in comparison.methods.items()
        for run in runs
    ]


def settings_table(comparison: Comparison) -> list[Row]:
    """Settings in which the methods differ, one row a setting and one column a method."""
    first = {method: method_settings(runs[0]) for method, runs in comparison.methods.items()}
    names = sorted({name for settings in first.values() for name in settings})
    rows = []
    for name in names:
        values = {method: settings.get(name) for method, settings in first.items()}
        if name != "algo.name" and len({str(value) for value in values.values()}) > 1:
            rows.append({"setting": name, **values})
    return rows


def method_settings(run: Run) -> dict[str, Any]:
    """A run's settings of algo, bc and replay by their dotted names."""
    return {
        name: value
        for group in ("algo", "bc", "replay")
        for name, value in run.settings.items()
        if name.split(".")[0] == group and name != "bc.path"
    }


def _success(runs: Sequence[Run], policy: str) -> Scores:
    """Final success rates [R, 1] of a policy."""
    return np.array([[run.success(policy)] for run in runs])


def _while_learning(comparison: Comparison, runs: Sequence[Run]) -> Scores:
    """Success rates [R, 1] on average over all evaluations: the area under the curve."""
    curves = [on_common_frames(comparison, run, JUDGED) for run in runs]
    return np.array([[np.mean([*curve.values()])] for curve in curves])


def _improvement(name: str, ours: Scores, theirs: Scores) -> Row:
    return _columns(name, bootstrap(probability_of_improvement, ours, theirs))


def _il_share(run: Run) -> float:
    episodes = run.final[JUDGED]
    return sum(e.il_frames for e in episodes) / sum(e.length for e in episodes)


def _columns(name: str, estimate: Estimate) -> Row:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _frames(point: EvalPoint) -> float:
    return point.frames


def _minutes(point: EvalPoint) -> float:
    return point.seconds / 60
