"""Run folder, tables and trackers."""

import json
from dataclasses import dataclass

import pytest

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs.folder import open_run_folder, read_config
from ibrl_torchrl.runs.provenance import read_provenance
from ibrl_torchrl.runs.tables import CsvTable
from ibrl_torchrl.runs.trackers import close_tracker, make_trackers


@dataclass
class Config:
    seed: int = 3


def test_a_run_folder_holds_settings_and_provenance(tmp_path):
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
        pytest.raises(UsageError, match="cannot create the folder"),
        open_run_folder(tmp_path / "file/run", Config()),
    ):
        pass


def test_two_runs_in_one_folder_are_refused(tmp_path):
    with (
        open_run_folder(tmp_path, Config()),
        pytest.raises(UsageError, match="is locked by another process"),
        open_run_folder(tmp_path, Config(), "resume"),
    ):
        pass
    with open_run_folder(tmp_path, Config(), "resume") as (_, is_resumed):
        assert not is_resumed  # without a checkpoint it is started again


def test_a_run_resumes_with_its_settings_and_versions_alone(tmp_path):
    with open_run_folder(tmp_path, Config()):
        (tmp_path / "checkpoint.pt").touch()
        (tmp_path / "imitation").mkdir()
    with open_run_folder(tmp_path, Config(), "resume") as (_, is_resumed):
        assert is_resumed and (tmp_path / "imitation").exists()
    assert len(read_provenance(tmp_path)["resumed"]) == 1
    with (
        pytest.raises(UsageError, match=r"was started with seed=3, this call has 4; use the same"),
        open_run_folder(tmp_path, Config(seed=4), "resume"),
    ):
        pass
    origin = read_provenance(tmp_path)
    origin["versions"]["torch"] = "1.0"
    (tmp_path / "run.json").write_text(json.dumps(origin))
    with (
        pytest.raises(UsageError, match=r"was started with torch 1\.0, \d.* is installed"),
        open_run_folder(tmp_path, Config(), "resume"),
    ):
        pass
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UsageError, match=r"run.json: cannot be read"):
        read_provenance(tmp_path)


@pytest.mark.parametrize("content", [None, "- a\n", "a: [", "\x00"])
def test_other_folders_are_refused(tmp_path, content):
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


def test_a_resumed_table_continues_at_its_saved_size(tmp_path):
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


def test_weights_and_biases_receives_scalars_offline(tmp_path):
    pytest.importorskip("wandb")
    run_dir = tmp_path / "ibrl-seed1"
    (logger,) = make_trackers(run_dir, {"seed": 1}, tensorboard=False, wandb="offline", project="p")
    logger.log_scalar("train/q", 1.0, step=1)
    assert logger.experiment.config["seed"] == 1 and logger.experiment.name == "ibrl-seed1"
    close_tracker(logger)
    assert [*run_dir.rglob("*.wandb")]
