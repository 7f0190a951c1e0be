"""Statistics of few runs as defined by rliable (Agarwal et al., arXiv 2108.13264).

Scores are success rates [R, T]: one row a run, one column a task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import mannwhitneyu, trim_mean

# Resamples of a bootstrap interval; its bounds then vary by less than a hundredth.
RESAMPLES = 2000

Scores = NDArray[np.float64]


class Estimate(NamedTuple):
    """Point estimate with a 95 % confidence interval."""

    value: float
    low: float
    high: float


def interquartile_mean(scores: ArrayLike) -> Scores:
    """Interquartile mean over runs and tasks: the mean without a quarter of the scores at each end.

    The number of scores cut at each end is rounded down, so that up to three are all averaged.

    Args:
        scores: [*, R, T].

    Returns:
        Means [*].

    Example:
        >>> float(interquartile_mean([[0.0], [0.5], [0.7], [1.0]]))
        0.6
    """
    scores = np.asarray(scores, float)
    means: Scores = trim_mean(scores.reshape(*scores.shape[:-2], -1), 0.25, axis=-1)
    return means


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> Scores:
    """Probability that a run of X has a higher score than a run of Y; ties count half.

    The Mann-Whitney statistic divided by the number of pairs, averaged over tasks.

    Args:
        x: scores [*, R, T] of method X.
        y: scores [*, S, T] of method Y.

    Returns:
        Probabilities [*].

    Example:
        >>> float(probability_of_improvement([[1.0], [0.5]], [[0.5], [0.0]]))
        0.875
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    pairs = x.shape[-2] * y.shape[-2]
    wins = mannwhitneyu(x, y, axis=-2, method="asymptotic").statistic
    probabilities: Scores = (wins / pairs).mean(-1)
    return probabilities


def bootstrap(
    statistic: Callable[..., Scores],
    *scores: ArrayLike,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Stratified bootstrap: a statistic and its 95 % percentile interval.

    Runs are drawn with replacement within each task (column) of each argument.

    Args:
        statistic: maps as many arrays [*, R, T] as there are ``scores`` to [*].
        scores: arrays [R, T]; their numbers of runs R may differ.
        resamples: number of resamples, default 2000.
        seed: seed of the draws, default 0.
    """
    generator = np.random.default_rng(seed)
    arrays = [np.asarray(array, float) for array in scores]
    values = statistic(*(_resample(array, resamples, generator) for array in arrays))
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(float(statistic(*arrays)), float(low), float(high))


def _resample(scores: Scores, resamples: int, generator: np.random.Generator) -> Scores:
    """Resamples [N, R, T] of scores [R, T]."""
    rows = generator.integers(len(scores), size=(resamples, *scores.shape))
    return np.take_along_axis(scores[None], rows, axis=1)


def first_crossing(
    threshold: float, times: Sequence[float], scores: Sequence[float]
) -> float | None:
    """Time of the first score that is at least ``threshold``; None if there is none.

    Args:
        threshold: score to reach.
        times: frames or seconds in ascending order.
        scores: scores at these times.
    """
    return next(
        (time for time, score in zip(times, scores, strict=True) if score >= threshold), None
    )
