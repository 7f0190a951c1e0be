"""Tables of methods: lists of rows, as written to CSV files and to the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np

from ibrl_torchrl.keys import HYBRID, RL
from ibrl_torchrl.reports.comparison import (
    Comparison,
    format_setting,
    is_input_path,
)
from ibrl_torchrl.reports.run_tables import (
    THRESHOLDS,
    Row,
    crossing,
    dip_depth,
    frames_of,
    length_column,
    mean_success,
    success_column,
)
from ibrl_torchrl.reports.statistics import (
    Estimate,
    Scores,
    bootstrap,
    interquartile_mean,
    probability_of_improvement,
)
from ibrl_torchrl.runs.reader import Run
from ibrl_torchrl.runs.tables import share_column


def final_table(comparison: Comparison) -> list[Row]:
    """Success of each method over runs, one row a method.

    Columns: interquartile mean and interval of the hybrid's success in the final evaluation
    (``success``) and averaged over all evaluations, which is the area under the learning curve
    (``while_learning``), and of the depth of its dip below the imitation policy (``dip``); median
    frames to 50 % and 90 % success (``frames_to_50``), where runs that never get there count as
    infinite and an infinite median is None, and the number of runs that do (``runs_to_50``); final
    success of the RL actor and of each imitation policy; mean share of each imitation policy among
    the hybrid's final actions; mean length of each policy's successful final episodes in frames.
    What a method lacks is None.
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
            **_dip_columns(runs),
            **_crossing_columns(runs),
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
            **{
                length_column(policy): _mean_length(runs, policy)
                for policy in (HYBRID, *comparison.imitation)
            },
        }
        for method, runs in comparison.methods.items()
    ]


def improvement_table(comparison: Comparison) -> list[Row]:
    """Probability of improvement for each ordered pair of methods.

    Of the final success, and of the success averaged over all evaluations. What is left to 1 is the
    probability of the reverse.
    """
    methods = comparison.methods
    scores = {
        "probability": {name: _success(runs, HYBRID) for name, runs in methods.items()},
        "while_learning": {name: _mean_success(comparison, runs) for name, runs in methods.items()},
    }
    pairs = {
        (x, y): {
            key: bootstrap(probability_of_improvement, of[x], of[y]) for key, of in scores.items()
        }
        for x, y in combinations(methods, 2)
    }
    pairs |= {
        (y, x): {key: _complement(estimate) for key, estimate in estimates.items()}
        for (x, y), estimates in pairs.items()
    }
    return [
        {
            "method": x,
            "than": y,
            **_columns("probability", pairs[x, y]["probability"]),
            **_columns("while_learning", pairs[x, y]["while_learning"]),
        }
        for x, y in permutations(methods, 2)
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
    return np.array([[mean_success(comparison, run)] for run in runs])


def _proposal_share(runs: Sequence[Run], name: str) -> float | None:
    """Mean over runs of a proposal's share in the hybrid's final actions."""
    if not all(name in run.proposals for run in runs):
        return None
    return float(np.mean([run.proposal_share(HYBRID, name) for run in runs]))


def _mean_length(runs: Sequence[Run], policy: str) -> float | None:
    """Mean over runs of the mean length of a policy's successful final episodes."""
    lengths = [run.success_length(policy) for run in runs if policy in run.final]
    known = [length for length in lengths if length is not None]
    return float(np.mean(known)) if known else None


def _dip_columns(runs: Sequence[Run]) -> Row:
    """Estimate of the dip's depth; None where a run has no dip to measure."""
    dips = [dip_depth(run) for run in runs]
    if None in dips:
        return dict.fromkeys(("dip", "dip_low", "dip_high"))
    return _columns("dip", bootstrap(interquartile_mean, np.array(dips, float)[:, None]))


def _crossing_columns(runs: Sequence[Run]) -> Row:
    """Median frames to each success rate over runs, and the number of runs that reach it."""
    columns: Row = {}
    for threshold in THRESHOLDS:
        frames = [crossing(run, threshold, frames_of) for run in runs]
        reached = [frame for frame in frames if frame is not None]
        median = float(np.median([math.inf if frame is None else frame for frame in frames]))
        columns[f"frames_to_{threshold}"] = median if math.isfinite(median) else None
        columns[f"runs_to_{threshold}"] = len(reached)
    return columns


def _complement(estimate: Estimate) -> Estimate:
    """Estimate of 1 minus a quantity."""
    return Estimate(1 - estimate.value, 1 - estimate.high, 1 - estimate.low)


def _columns(name: str, estimate: Estimate) -> Row:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
