"""Statistics against hand-computed numbers and scipy."""

import numpy as np
import pytest
from scipy import stats

from ibrl_torchrl.reports.statistics import (
    bootstrap,
    first_crossing,
    interquartile_mean,
    probability_of_improvement,
)


def test_interquartile_mean_cuts_a_quarter_at_each_end():
    assert interquartile_mean([[0.0], [0.5], [0.7], [1.0]]) == pytest.approx(0.6)
    assert interquartile_mean([[0.0, 9.0], [0.5, 0.7]]) == pytest.approx(0.6)  # over all scores
    assert interquartile_mean([[0.3], [0.6], [0.9]]) == pytest.approx(0.6)  # three: all count


def test_bootstrap_of_one_task_matches_scipy():
    scores = np.array([[0.2], [0.4], [0.5], [0.9], [1.0]])
    ours = bootstrap(interquartile_mean, scores, resamples=20_000)
    theirs = stats.bootstrap(
        (scores[:, 0],),
        lambda sample: float(interquartile_mean(sample[:, None])),
        n_resamples=5000,
        method="percentile",
        vectorized=False,
        random_state=1,
    ).confidence_interval
    assert ours.value == interquartile_mean(scores)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_bootstrap_is_stratified_by_task():
    # Runs of the first task all score 0, of the second all 1: nothing can vary.
    estimate = bootstrap(lambda scores: scores.mean((-2, -1)), np.array([[0.0, 1.0]] * 3))
    assert estimate == (0.5, 0.5, 0.5)


def test_bootstrap_is_deterministic():
    scores = [[0.1], [0.5], [0.6]]
    assert bootstrap(interquartile_mean, scores) == bootstrap(interquartile_mean, scores)


def test_bootstrap_resamples_each_argument_separately():
    assert bootstrap(probability_of_improvement, [[0.9], [1.0], [0.8]], [[0.1], [0.2]]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([[1.0], [0.5]], [[0.5], [0.0]], 3.5 / 4),  # three wins and a tie among four pairs
        ([[0.0], [0.0]], [[1.0]], 0.0),
        ([[0.5], [0.5]], [[0.5], [0.5]], 0.5),
        ([[1.0, 0.0]], [[0.0, 1.0]], 0.5),  # higher on one task, lower on the other
    ],
)
def test_probability_of_improvement_matches_hand_computation(x, y, expected):
    assert probability_of_improvement(x, y) == pytest.approx(expected)


def test_first_crossing_is_the_first_score_at_the_threshold():
    frames, scores = [0, 1000, 2000, 3000], [0.1, 0.5, 0.4, 0.9]
    assert first_crossing(0.5, frames, scores) == 1000
    assert first_crossing(0.9, frames, scores) == 3000
    assert first_crossing(0.95, frames, scores) is None
