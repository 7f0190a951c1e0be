"""Run folder: creation, lock, resuming."""

import json
import os
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs import names
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


def started(folder):
    """Folder of a run that has not come to a checkpoint."""
    with open_run_folder(folder, Config()):
        pass
    return folder


def test_run_folder_without_checkpoint_is_emptied_and_started_again(tmp_path):
    started(tmp_path)
    for name in ("imitation/bc.pt", "episodes/0000000.pt", "replay/online/a.memmap"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    for name in ("demos.hdf5", "best.pt", "train.csv", "eval.csv", ".best.pt.123.tmp"):
        (tmp_path / name).touch()
    with open_run_folder(tmp_path, Config(), "resume") as (_, is_resumed):
        assert not is_resumed
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"config.yaml", "run.json", ".lock", ".ibrl-run"}


FOREIGN = [
    *("notes.txt", ".notes.tmp", "src/.cache.tmp", "table.csv", "log.txt"),
    *("episodes/notes.txt", "episodes/mine.pt", "imitation/notes.txt", "replay/notes.txt"),
]


@pytest.mark.parametrize("name", FOREIGN)
def test_files_that_are_not_of_a_run_are_kept(tmp_path, name):
    started(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    with open_run_folder(tmp_path, Config(), "resume"):
        assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("if_exists", ["refuse", "resume"])
@pytest.mark.parametrize(
    "name", ["demos.hdf5", "train.csv", "config.yaml", "episodes/a.pt", "imitation/bc.pt"]
)
def test_folder_with_files_of_others_is_refused_and_left_as_it_is(tmp_path, name, if_exists):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with (
        pytest.raises(UsageError, match=r"but is no run folder|holds a run already"),
        open_run_folder(tmp_path, Config(), if_exists),
    ):
        pass
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / name).read_text() == "mine"


def test_run_without_its_last_checkpoint_resumes_from_the_one_before_it(tmp_path):
    started(tmp_path)
    kept = ["checkpoint-previous.pt", "episodes/0000000.pt", "episodes/0000004.pt"]
    (tmp_path / "episodes").mkdir()
    for name in kept:
        (tmp_path / name).touch()
    with open_run_folder(tmp_path, Config(), "resume") as (_, is_resumed):
        assert is_resumed and all((tmp_path / name).exists() for name in kept)


def test_run_whose_checkpoints_are_missing_keeps_its_episodes(tmp_path):
    started(tmp_path)
    (tmp_path / "episodes").mkdir()
    (tmp_path / "episodes/0000004.pt").touch()
    with (
        pytest.raises(UsageError, match=r"neither checkpoint\.pt nor checkpoint-previous\.pt"),
        open_run_folder(tmp_path, Config(), "resume"),
    ):
        pass
    assert (tmp_path / "episodes/0000004.pt").exists()


RUN_NAMES = [value for name, value in vars(names).items() if name.isupper()]
LINKS = [
    *(*RUN_NAMES, "tensorboard", "wandb"),
    *("imitation/bc.pt", "episodes/0000000.pt", "replay/online/state.memmap"),
]


@pytest.mark.parametrize("name", LINKS)
def test_links_in_a_run_folder_are_not_followed(tmp_path, name):
    run, outside = started(tmp_path / "run"), tmp_path / "outside"
    link = run / name
    link.parent.mkdir(parents=True, exist_ok=True)
    if "." in name:
        outside.write_text("mine")
    else:
        outside.mkdir()
        (outside / "0000000.pt").write_text("mine")
    link.unlink(missing_ok=True)
    link.symlink_to(outside)
    with pytest.raises(UsageError, match=r"is a link, which is not followed; .*$"):
        read_config(run)
    with (
        pytest.raises(UsageError, match=r"is a link, which is not followed; .*$"),
        open_run_folder(run, Config(), "resume"),
    ):
        pass
    assert (outside if outside.is_file() else outside / "0000000.pt").read_text() == "mine"


def test_special_files_in_a_run_folder_are_refused(tmp_path):
    os.mkfifo(started(tmp_path) / "train.csv")
    with pytest.raises(UsageError, match=r"train\.csv: is not a regular file"):
        read_config(tmp_path)


def test_run_folder_may_be_reached_through_a_link(tmp_path):
    started(tmp_path / "run")
    (tmp_path / "latest").symlink_to("run")
    assert read_config(tmp_path / "latest") == {"seed": 3}


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


def test_resuming_compares_settings_that_the_call_leaves_out(tmp_path):
    @dataclass
    class Kwargs:
        seed: int = 3
        run_dir: str = "."
        kwargs: dict[str, str] = field(default_factory=lambda: {"reward_type": "dense"})

    with open_run_folder(tmp_path, Kwargs()):
        (tmp_path / "checkpoint.pt").touch()
    message = r"was started with kwargs\.reward_type=dense, this call has None; use the same"
    with (
        pytest.raises(UsageError, match=message),
        open_run_folder(tmp_path, Kwargs(kwargs={}), "resume"),
    ):
        pass


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghijklmnop")
)


@pytest.mark.parametrize(
    "content",
    [
        *(None, "- a\n", "a: [", "\x00", "3", BOMB, "a: " + 3000 * "[", "a: !!binary aGk=\n"),
        *("a: 2026-01-01\n", "? [1]\n: 2\n", "a: [b, {c: '${oc.env:HOME}'}]\n", "x: '${a}'\n"),
        *("'${oc.env:HOME}': 1\n", "a: " + 200_000 * "x"),
    ],
)
def test_read_config_refuses_other_files(tmp_path, content):
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UsageError, match=r"not a run folder|cannot be read") as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_full_disk_is_reported_in_one_line(tmp_path):
    with (
        pytest.raises(UsageError, match=r"cannot be written \(No space left on device\); free"),
        open_run_folder(tmp_path, Config()),
        open("/dev/full", "w") as full,
    ):
        print("a row", file=full, flush=True)
