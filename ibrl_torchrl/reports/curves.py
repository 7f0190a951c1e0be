"""Curves of several runs on common frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from ibrl_torchrl.reports.comparison import Comparison
from ibrl_torchrl.reports.statistics import Estimate, bootstrap, interquartile_mean
from ibrl_torchrl.runs.reader import EvalPoint, Run


@dataclass(frozen=True)
class Curve:
    """Interquartile mean over runs, with its interval, at each of some frames."""

    frames: tuple[int, ...]
    estimates: tuple[Estimate, ...]


def curve(
    comparison: Comparison,
    runs: Sequence[Run],
    policy: str,
    figure: Callable[[EvalPoint], float] = attrgetter("success"),
) -> Curve | None:
    """A method's curve of a policy; None where a run has no evaluation of it.

    Frames at which not every run was evaluated are left out.

    Args:
        comparison: that the runs are of.
        runs: of one method.
        policy: ``"hybrid"``, ``"rl"`` or ``"bc"``.
        figure: what of an evaluation is drawn, default its success rate.
    """
    series = [on_common_frames(comparison, run, policy, figure) for run in runs]
    shared = sorted(set.intersection(*map(set, series)))
    if not shared:
        return None
    estimates = (
        bootstrap(interquartile_mean, np.array([[values[frame]] for values in series]))
        for frame in shared
    )
    return Curve(tuple(shared), tuple(estimates))


def on_common_frames(
    comparison: Comparison,
    run: Run,
    policy: str,
    figure: Callable[[EvalPoint], float] = attrgetter("success"),
) -> dict[int, float]:
    """A run's evaluations of a policy, by frames that the runs of a comparison have in common.

    Evaluations come after the episode in which they fell due, so that their frames differ by less
    than an episode; they are put on multiples of ``eval.every``, the last on the budget.
    """
    return {_on_grid(point, comparison): figure(point) for point in run.curves.get(policy, ())}


def _on_grid(point: EvalPoint, comparison: Comparison) -> int:
    if point.frames >= comparison.frames:
        return comparison.frames
    return point.frames // comparison.every * comparison.every
