"""CSV tables: columns, rows, resuming."""

import resource
import signal
from pathlib import Path

import pytest

from ibrl_torchrl.errors import UsageError
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
        *("frames", "episodes", "rounds", "wall_s", "episode_success"),
        *("success_last_20_episodes", "episode_frames"),
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


def test_resumed_csv_table_that_is_shorter_than_saved_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a\n1\n")
    for path in (tmp_path / "t.csv", tmp_path / "missing.csv"):
        with pytest.raises(UsageError, match="is shorter than the 100 bytes"):
            CsvTable(path, ["a"], size=100)
    assert (tmp_path / "t.csv").read_text() == "a\n1\n"


@pytest.mark.parametrize("size", [None, 2])
@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_csv_table_does_not_write_through_links(tmp_path, link, size):
    (victim := tmp_path / "victim").write_text("mine")
    link(tmp_path / "t.csv", victim)
    with pytest.raises(UsageError, match=r"is a link|a hard link"):
        CsvTable(tmp_path / "t.csv", ["a"], size=size)
    assert victim.read_text() == "mine"


def test_full_disk_leaves_whole_rows_and_one_line(tmp_path):
    """The system refuses files beyond a size, as a full disk does."""
    table = CsvTable(tmp_path / "t.csv", ["a"])
    table.write({"a": 1})
    size = table.sync()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
    try:
        with pytest.raises(UsageError, match=r"t\.csv: cannot be written \(.*\); free some space"):
            table.write({"a": 100 * "x"})
        table.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    table = CsvTable(tmp_path / "t.csv", ["a"], size=size)
    table.write({"a": 2})
    table.close()
    assert read_rows(tmp_path / "t.csv") == [{"a": "1"}, {"a": "2"}]


def test_resumed_csv_table_keeps_the_header_of_its_file(tmp_path):
    """A table of an earlier commit, with fewer columns."""
    table = CsvTable(tmp_path / "t.csv", ["a", "c"])
    table.write({"a": 1, "c": 3})
    size = table.sync()
    table.close()
    table = CsvTable(tmp_path / "t.csv", ["a", "b", "c"], size=size)
    table.write({"a": 4, "b": 5, "c": 6})
    with pytest.raises(ValueError, match="unknown"):
        table.write({"unknown": 1})
    table.close()
    assert (tmp_path / "t.csv").read_text().splitlines() == ["a,c", "1,3", "4,6"]
