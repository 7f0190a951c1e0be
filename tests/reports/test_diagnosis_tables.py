"""Diagnosis tables against hand-computed numbers."""

from dataclasses import replace

import pytest
from support.synthetic_runs import write_diagnosis, write_run

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.reports.comparison import compare
from ibrl_torchrl.reports.diagnosis_tables import (
    advantage_of,
    diagnosis_table,
    episode_profile,
    execution_of,
    read_diagnoses,
)
from ibrl_torchrl.runs.reader import find_runs


@pytest.fixture
def diagnosis(tmp_path):
    write_diagnosis(write_run(tmp_path / "a"))
    write_run(tmp_path / "b", seed=2)  # without a diagnosis
    (comparison,) = compare(find_runs([tmp_path]))
    (diagnosis,) = read_diagnoses(comparison)
    return diagnosis


def test_table_matches_hand_computation(diagnosis):
    (row,) = diagnosis_table([diagnosis], ["bc"])
    assert (row["method"], row["seed"]) == ("ibrl", 1)
    assert row["value_error_success"] == pytest.approx((-0.1 + 0.1) / 2)
    assert row["value_error_failure"] == pytest.approx((0.3 + 0.1) / 2)
    assert (row["success_demonstrated/bc"], row["success_visited/bc"]) == (1.0, 0.5)
    assert row["error_demonstrated/bc"] is None
    assert row["error_visited/bc"] == pytest.approx(0.4)


def test_table_has_columns_for_each_imitation_policy(diagnosis):
    (row,) = diagnosis_table([diagnosis], ["bc", "act"])
    assert row["success_visited/bc"] == 0.5 and row["success_visited/act"] is None


def test_missing_returns_have_no_value_error(diagnosis):
    steps = [replace(step, earned=None) for step in diagnosis.steps]
    (row,) = diagnosis_table([replace(diagnosis, steps=steps)], ["bc"])
    assert row["value_error_success"] is None and row["value_error_failure"] is None
    assert row["success_visited/bc"] == 0.5


def test_episode_profile_averages_tenths_of_an_episode(diagnosis):
    middles, share = episode_profile(diagnosis, execution_of("bc"))
    assert middles == pytest.approx([0.05, 0.55]) and share == [0.5, 0.0]
    advantage = episode_profile(diagnosis, advantage_of("bc"))[1]
    assert advantage == pytest.approx([(0.1 - 0.1) / 2, (-0.5 - 0.1) / 2])


@pytest.mark.parametrize(
    ("name", "original", "damaged"),
    [
        ("diagnosis_steps.csv", "0.3", "many"),
        ("diagnosis_steps.csv", "step", "leap"),
        ("diagnosis_steps.csv", "value/bc", "value/act"),
        ("diagnosis_steps.csv", ",bc,", ",act,"),
        ("diagnosis_steps.csv", "1,0,2,1", "1,0,0,1"),
        ("diagnosis_steps.csv", "1,0,2,1", "1,9,2,1"),
        ("diagnosis_rollouts.csv", "0.3", "many"),
        ("diagnosis_rollouts.csv", "source", "origin"),
        ("diagnosis_rollouts.csv", "visited", "dreamt"),
        ("diagnosis_rollouts.csv", "True", "1"),
    ],
)
def test_damaged_tables_are_refused(tmp_path, name, original, damaged):
    table = write_diagnosis(write_run(tmp_path / "a")) / name
    (comparison,) = compare(find_runs([tmp_path]))
    content = table.read_text()
    assert original in content
    table.write_text(content.replace(original, damaged))
    with pytest.raises(UsageError, match=f"{name}: is damaged or not a table of ibrl diagnose"):
        read_diagnoses(comparison)
