"""Statistics of few runs, by the definitions of rliable (Agarwal et al., arXiv 2108.13264).

Scores are success rates, one row a run and one column a task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import mannwhitneyu, trim_mean

# Resamples of a bootstrap interval; its bounds then vary by less than a hundredth.
RESAMPLES = 2000


class Estimate(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


Scores = NDArray[np.float64]


def interquartile_mean(scores: ArrayLike) -> Scores:
    """Mean [*] of the middle half of scores [*, R, T]; of up to three it leaves none out."""
    scores = np.asarray(scores, float)
    return trim_mean(scores.reshape(*scores.shape[:-2], -1), 0.25, axis=-1)


def probability_of_improvement(ours: ArrayLike, theirs: ArrayLike) -> Scores:
    """How probable it is that a run of ours scores higher than one of theirs, ties counted half.

    The mean over tasks of the Mann-Whitney statistic over the number of pairs.

    Args:
        ours: scores [*, R, T].
        theirs: scores [*, S, T].
    """
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    pairs = ours.shape[-2] * theirs.shape[-2]
    wins = mannwhitneyu(ours, theirs, axis=-2, method="asymptotic").statistic
    return (wins / pairs).mean(-1)


def bootstrap(
    statistic: Callable[..., Scores],
    *scores: ArrayLike,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A statistic with its 95 % percentile interval over stratified resamples.

    Runs are drawn with replacement within each task (column) of each argument.

    Args:
        statistic: maps as many arrays [*, R, T] as there are ``scores`` to [*].
        scores: each [R, T]; the number of runs R may differ between them.
        resamples: how many, default 2000.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    arrays = [np.asarray(each, float) for each in scores]
    values = statistic(*(_resampled(each, resamples, random) for each in arrays))
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(float(statistic(*arrays)), float(low), float(high))


def _resampled(scores: Scores, resamples: int, random: np.random.Generator) -> Scores:
    """Resamples [N, R, T] of scores [R, T]."""
    rows = random.integers(len(scores), size=(resamples, *scores.shape))
    return np.take_along_axis(scores[None], rows, axis=1)


def first_reaching(level: float, at: Sequence[float], scores: Sequence[float]) -> float | None:
    """Where a curve first is at ``level`` or above; None if it never is.

    Args:
        level: of the score.
        at: frames or seconds, ascending.
        scores: of the evaluations there.
    """
    return next((x for x, score in zip(at, scores, strict=True) if score >= level), None)
