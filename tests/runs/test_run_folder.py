"""Run folder, tables and picture."""

import csv
import json
from dataclasses import dataclass

import pytest

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.evaluation.evaluate import EpisodeOutcome, Evaluation
from ibrl_torchrl.evaluation.table import format_table, write_evaluation
from ibrl_torchrl.runs.folder import open_run_folder, read_config
from ibrl_torchrl.runs.provenance import read_provenance
from ibrl_torchrl.runs.tables import CsvTable
from ibrl_torchrl.runs.trackers import make_trackers


@dataclass
class Config:
    seed: int = 3


def test_a_run_folder_says_how_it_came_to_be(tmp_path):
    with open_run_folder(tmp_path / "a/b", Config()) as (folder, is_resumed):
        assert read_config(folder) == {"seed": 3} and not is_resumed
        origin = json.loads((folder / "run.json").read_text())
        assert origin["versions"]["torch"] and origin["command"]
    with (
        pytest.raises(UsageError, match="holds a run already"),
        open_run_folder(folder, Config()),
    ):
        pass


def test_an_unwritable_run_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match="cannot make the folder"),
        open_run_folder(tmp_path / "file/run", Config()),
    ):
        pass


def test_two_runs_in_one_folder_are_refused(tmp_path):
    with (
        open_run_folder(tmp_path, Config()),
        pytest.raises(UsageError, match="another process is at it"),
        open_run_folder(tmp_path, Config(), "go_on"),
    ):
        pass
    with open_run_folder(tmp_path, Config(), "go_on") as (_, is_resumed):
        assert not is_resumed  # there was no checkpoint, so it was begun anew


def test_a_run_goes_on_with_its_own_settings_and_versions_alone(tmp_path):
    with open_run_folder(tmp_path, Config()):
        (tmp_path / "checkpoint.pt").touch()
        (tmp_path / "bc.pt").touch()
    with open_run_folder(tmp_path, Config(), "go_on") as (_, is_resumed):
        assert is_resumed and (tmp_path / "bc.pt").exists()
    assert len(read_provenance(tmp_path)["resumed"]) == 1
    with (
        pytest.raises(UsageError, match=r"was begun with seed=3, this call has 4; use the same"),
        open_run_folder(tmp_path, Config(seed=4), "go_on"),
    ):
        pass
    origin = read_provenance(tmp_path)
    origin["versions"]["torch"] = "1.0"
    (tmp_path / "run.json").write_text(json.dumps(origin))
    with (
        pytest.raises(UsageError, match=r"was begun with torch 1\.0, here is \d"),
        open_run_folder(tmp_path, Config(), "go_on"),
    ):
        pass
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UsageError, match=r"run.json: cannot be read"):
        read_provenance(tmp_path)


@pytest.mark.parametrize("content", [None, "- a\n", "a: [", "\x00"])
def test_what_is_not_a_run_folder_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UsageError, match=r"not a run folder|cannot be read"):
        read_config(tmp_path)


def test_table_rows_are_on_disk_at_once_and_columns_are_fixed(tmp_path):
    table = CsvTable(tmp_path / "t.csv", ["a", "b"])
    table.write({"a": 1, "b": 0.123456789})
    assert (tmp_path / "t.csv").read_text().splitlines() == ["a,b", "1,0.123457"]
    with pytest.raises(ValueError, match="c"):
        table.write({"c": 1})
    table.close()


def test_a_table_goes_on_where_it_was_when_it_was_saved(tmp_path):
    table = CsvTable(tmp_path / "t.csv", ["a"])
    table.write({"a": 1})
    size = table.sync()
    table.write({"a": 2})  # after the checkpoint, to be lost
    table.close()
    table = CsvTable(tmp_path / "t.csv", ["a"], size=size)
    table.write({"a": 3})
    table.close()
    assert (tmp_path / "t.csv").read_text().splitlines() == ["a", "1", "3"]


def test_tensorboard_receives_scalars(tmp_path):
    pytest.importorskip("tensorboard")
    (logger,) = make_trackers(tmp_path, {}, tensorboard=True, wandb="disabled", project="p")
    logger.log_scalar("train/q", 1.0, step=1)
    assert [*tmp_path.rglob("events.out.tfevents.*")]


def _evaluation(successes):
    return Evaluation(
        tuple(EpisodeOutcome(i, success, 10, 4) for i, success in enumerate(successes))
    )


def test_final_evaluation_lists_every_episode(tmp_path):
    results = {"hybrid": _evaluation([True, False]), "bc": _evaluation([False, False])}
    write_evaluation(tmp_path / "e.csv", 7, results)
    rows = [*csv.DictReader((tmp_path / "e.csv").open())]
    assert [(row["policy"], row["seed"], row["success"]) for row in rows] == [
        ("hybrid", "0", "1"),
        ("hybrid", "1", "0"),
        ("bc", "0", "0"),
        ("bc", "1", "0"),
    ]
    table = format_table(results)
    assert "0.50" in table and "0.40" in table
