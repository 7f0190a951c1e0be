"""Learning curves: evaluations of several runs aligned on common frames and aggregated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from ibrl_torchrl.reports.comparison import Comparison
from ibrl_torchrl.reports.statistics import Estimate, bootstrap, interquartile_mean
from ibrl_torchrl.runs.reader import EvalPoint, Run

Metric = Callable[[EvalPoint], float]
SUCCESS: Metric = attrgetter("success")


@dataclass(frozen=True)
class Curve:
    """Interquartile means over runs with confidence intervals.

    Attributes:
        x: training frames, or another quantity that all runs have in common, in ascending order.
        estimates: one for each.
    """

    x: tuple[float, ...]
    estimates: tuple[Estimate, ...]


def share_of(proposal: str) -> Metric:
    """Metric: share of a proposal among the executed actions; 0 in runs without this proposal."""
    return lambda point: point.shares.get(proposal, 0.0)


def method_curve(
    comparison: Comparison, runs: Sequence[Run], policy: str, metric: Metric = SUCCESS
) -> Curve | None:
    """Aggregated curve of a method; None if no frame has an evaluation of every run.

    Args:
        comparison: comparison that contains the runs.
        runs: runs of the method.
        policy: ``"hybrid"``, ``"rl"`` or the name of an imitation policy.
        metric: value of an evaluation, default its success rate.
    """
    return aggregate([run_curve(comparison, run, policy, metric) for run in runs])


def aggregate(series: Sequence[Mapping[float, float]]) -> Curve | None:
    """Aggregated curve of one or more runs' values; None where they have no x in common.

    Args:
        series: values of each run by x.
    """
    common = sorted(set.intersection(*map(set, series)))
    if not common:
        return None
    estimates = (
        bootstrap(interquartile_mean, np.array([[values[x]] for values in series])) for x in common
    )
    return Curve(tuple(common), tuple(estimates))


def run_curve(
    comparison: Comparison, run: Run, policy: str, metric: Metric = SUCCESS
) -> dict[float, float]:
    """Evaluations of a policy in one run, by frames rounded down to multiples of ``eval.every``.

    Evaluations follow the episode in which they fell due, so that those of different runs are less
    than an episode apart. Those at or after the budget are at the budget.
    """
    return {
        _aligned_frame(point, comparison): metric(point) for point in run.curves.get(policy, ())
    }


def _aligned_frame(point: EvalPoint, comparison: Comparison) -> int:
    if point.frames >= comparison.frames:
        return comparison.frames
    return point.frames // comparison.every * comparison.every
