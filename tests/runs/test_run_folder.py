"""Run folder: creation, lock, resuming."""

import json
from dataclasses import dataclass

import pytest

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs.folder import open_run_folder, read_config
from ibrl_torchrl.runs.provenance import read_provenance


@dataclass
class Config:
    seed: int = 3


def test_run_folder_holds_configuration_and_provenance(tmp_path):
    with open_run_folder(tmp_path / "a/b", Config()) as (folder, is_resumed):
        assert read_config(folder) == {"seed": 3} and not is_resumed
        provenance = json.loads((folder / "run.json").read_text())
        assert provenance["versions"]["torch"] and provenance["command"]
    with (
        pytest.raises(UsageError, match="holds a run already"),
        open_run_folder(folder, Config()),
    ):
        pass


def test_run_folder_that_cannot_be_created_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match="cannot create the folder"),
        open_run_folder(tmp_path / "file/run", Config()),
    ):
        pass


def test_run_folder_is_locked(tmp_path):
    with (
        open_run_folder(tmp_path, Config()),
        pytest.raises(UsageError, match="is locked by another process"),
        open_run_folder(tmp_path, Config(), "resume"),
    ):
        pass


def test_run_folder_without_checkpoint_is_emptied_and_started_again(tmp_path):
    with open_run_folder(tmp_path, Config()):
        for folder in ("imitation", "episodes"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "a.pt").touch()
        for name in ("demos.hdf5", "best.pt", "train.csv", "eval.csv", ".best.pt.123.tmp"):
            (tmp_path / name).touch()
    with open_run_folder(tmp_path, Config(), "resume") as (_, is_resumed):
        assert not is_resumed
        assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "run.json", ".lock"}


def test_run_folder_resumes_with_equal_settings_and_versions_only(tmp_path):
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
    provenance = read_provenance(tmp_path)
    provenance["versions"]["torch"] = "1.0"
    (tmp_path / "run.json").write_text(json.dumps(provenance))
    with (
        pytest.raises(UsageError, match=r"was started with torch 1\.0, \d.* is installed"),
        open_run_folder(tmp_path, Config(), "resume"),
    ):
        pass


@pytest.mark.parametrize("content", [None, "- a\n", "a: [", "\x00"])
def test_read_config_refuses_other_folders(tmp_path, content):
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UsageError, match=r"not a run folder|cannot be read"):
        read_config(tmp_path)
