"""Diagnoses as tables, against numbers worked out by hand."""

from dataclasses import replace

import pytest
from support.synthetic_runs import write_diagnosis, write_run

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.reports.comparison import compare
from ibrl_torchrl.reports.diagnosis_tables import (
    advantage,
    by_part,
    diagnoses,
    diagnosis_table,
    is_imitation,
)
from ibrl_torchrl.runs.reader import find_runs


@pytest.fixture
def found(tmp_path):
    write_diagnosis(write_run(tmp_path / "a"))
    write_run(tmp_path / "b", seed=2)  # has not been diagnosed
    (comparison,) = compare(find_runs([tmp_path]))
    return diagnoses(comparison)


def test_values_against_returns_and_the_policy_off_the_demonstrations(found):
    (row,) = diagnosis_table(found)
    assert (row["method"], row["seed"]) == ("ibrl", 1)
    assert row["gap_solved"] == pytest.approx((-0.1 + 0.1) / 2)
    assert row["gap_failed"] == pytest.approx((0.3 + 0.1) / 2)
    assert (row["bc_demonstrated"], row["bc_visited"]) == (1.0, 0.5)
    assert row["error_demonstrated"] is None and row["error_visited"] == pytest.approx(0.4)


def test_returns_that_are_not_told_make_no_gap(found):
    (each,) = found
    untold = replace(each, moments=[row | {"return": ""} for row in each.moments])
    (row,) = diagnosis_table([untold])
    assert row["gap_solved"] is None and row["gap_failed"] is None and row["bc_visited"] == 0.5


def test_who_proposes_where_in_the_episode(found):
    (each,) = found
    where, share = by_part(each, is_imitation)
    assert where == pytest.approx([0.05, 0.55]) and share == [0.5, 0.0]
    assert by_part(each, advantage)[1] == pytest.approx([(0.1 - 0.1) / 2, (-0.5 - 0.1) / 2])


@pytest.mark.parametrize("name", ["diagnosis_moments.csv", "diagnosis_restarts.csv"])
def test_damaged_tables_are_named(tmp_path, name):
    table = write_diagnosis(write_run(tmp_path / "a")) / name
    (comparison,) = compare(find_runs([tmp_path]))
    whole = table.read_text()
    for damaged in (whole.replace("0.3", "many"), whole.replace("step", "leap")):
        table.write_text(damaged)
        with pytest.raises(UsageError, match=f"{name}: not a table of ibrl diagnose"):
            diagnoses(comparison)
