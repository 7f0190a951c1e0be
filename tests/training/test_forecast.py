"""Expected wall time: hand-computed, corrected, silent where it has nothing new to say."""

import pytest

from ibrl_torchrl.training.forecast import Forecast


def test_the_forecast_extrapolates_the_pace_of_learning_alone():
    forecast = Forecast(total_frames=1100, final=40.0)
    assert forecast.update(frames=100, rounds=0, wall=5.0) is None  # a fast warm-up
    assert forecast.update(frames=110, rounds=1, wall=10.0) is None
    assert forecast.update(frames=160, rounds=26, wall=25.0) is None  # 15 s: too short
    # 90 frames in 45 s, 900 frames to go: 55 + 450 + 40.
    assert forecast.update(frames=200, rounds=46, wall=55.0) == pytest.approx(545)


def test_the_forecast_is_corrected_when_the_pace_changes():
    forecast = Forecast(total_frames=10_000)
    forecast.update(frames=0, rounds=1, wall=0.0)
    assert forecast.update(frames=100, rounds=2, wall=50.0) == pytest.approx(5000)
    assert forecast.update(frames=200, rounds=3, wall=100.0) is None
    assert forecast.update(frames=400, rounds=4, wall=210.0) is None  # 5250, by 5 %
    assert forecast.update(frames=500, rounds=5, wall=400.0) == pytest.approx(8000)


def test_a_run_at_its_end_has_no_forecast():
    forecast = Forecast(total_frames=100)
    forecast.update(frames=10, rounds=1, wall=0.0)
    assert forecast.update(frames=100, rounds=9, wall=90.0) is None
