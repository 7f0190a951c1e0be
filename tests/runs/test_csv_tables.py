"""CSV tables: columns, rows, resuming."""

import pytest

from ibrl_torchrl.runs.tables import (
    CsvTable,
    diagnosis_step_columns,
    eval_columns,
    evaluation_columns,
    flatten_settings,
    read_rows,
    train_columns,
)

PROPOSALS = ("rl", "bc", "act")


def test_columns_of_named_proposals():
    assert train_columns(PROPOSALS, ("rl", "act"), ["loss_qvalue"]) == [
        *("frames", "episodes", "rounds", "wall_s", "episode_success", "episode_frames"),
        *("proposal_share/acting/rl", "proposal_share/acting/bc", "proposal_share/acting/act"),
        *("loss_qvalue", "proposal_share/target/rl", "proposal_share/target/act"),
    ]
    assert eval_columns(("rl", "bc"))[-3:] == [
        *("success_length", "proposal_share/acting/rl", "proposal_share/acting/bc"),
    ]
    assert evaluation_columns(("rl", "bc"))[-2:] == ["proposal_frames/rl", "proposal_frames/bc"]
    assert diagnosis_step_columns(PROPOSALS)[-5:] == [
        *("value/rl", "value/bc", "value/act", "distance/bc", "distance/act"),
    ]


def test_flatten_settings_joins_names_by_dots():
    nested = {"seed": 3, "algo": {"update": {"lr": 3e-4}, "name": "ibrl"}}
    assert dict(flatten_settings(nested)) == {
        "seed": 3,
        "algo.update.lr": 3e-4,
        "algo.name": "ibrl",
    }


def test_csv_table_flushes_rows_and_refuses_unknown_columns(tmp_path):
    table = CsvTable(tmp_path / "t.csv", ["a", "b"])
    table.write({"a": 1, "b": 0.123456789})
    assert (tmp_path / "t.csv").read_text().splitlines() == ["a,b", "1,0.123457"]
    with pytest.raises(ValueError, match="c"):
        table.write({"c": 1})
    table.close()


def test_resumed_csv_table_removes_rows_after_its_saved_size(tmp_path):
    table = CsvTable(tmp_path / "t.csv", ["a"])
    table.write({"a": 1})
    size = table.sync()
    table.write({"a": 2})  # after the checkpoint
    table.close()
    table = CsvTable(tmp_path / "t.csv", ["a"], size=size)
    table.write({"a": 3})
    table.close()
    assert read_rows(tmp_path / "t.csv") == [{"a": "1"}, {"a": "3"}]
