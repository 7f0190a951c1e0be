"""Resumption: runs interrupted at any time give the results of uninterrupted ones."""

import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.tables import timeless

from ibrl_torchrl.runs.checkpoint import load_checkpoint
from ibrl_torchrl.runs.provenance import read_provenance

pytest.importorskip("metaworld")
pytestmark = [pytest.mark.simulator, pytest.mark.slow]

KILLED_RUNS = Path(__file__).parent.parent / "support/killed_runs.py"
# Two buffers with priorities, and episodes that are added to both.
MIXED_REPLAY = ["algo=rlpd_plus", "replay.prioritized=true"]
SELF_IMITATION = [f"imitation.bc.self_imitation.{each}" for each in ("every=30", "steps=3")]


def killed_runs(folder, kills, *settings):
    command = [sys.executable, str(KILLED_RUNS), str(folder), str(kills), *settings]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize(("kills", "settings"), [(20, []), (4, MIXED_REPLAY), (4, SELF_IMITATION)])
def test_kills_at_any_time_change_no_number(tmp_path, kills, settings):
    killed_runs(tmp_path, kills, *settings)
    for name in ("train.csv", "eval.csv", "evaluation.csv"):
        assert timeless(tmp_path / "killed" / name) == timeless(tmp_path / "whole" / name)
    assert len(read_provenance(tmp_path / "killed")["resumed"]) >= kills // 4
    networks = [
        load_checkpoint(tmp_path / run / "checkpoint.pt", "ibrl", {})[1]["loss"]
        for run in ("whole", "killed")
    ]
    assert networks[0].keys() == networks[1].keys()
    for key, value in networks[0].items():
        assert torch.equal(value, networks[1][key]), key
    # Files that only an interrupted run needs are removed.
    names = {path.name for path in (tmp_path / "killed").iterdir()}
    assert {"checkpoint.pt", "best.pt", "evaluation.csv"} <= names
    assert not names & {"checkpoint-previous.pt", "episodes"}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Run that received SIGTERM after some checkpoints."""
    folder = tmp_path_factory.mktemp("stopped")
    killed_runs(folder, "stop", *MIXED_REPLAY)
    return folder / "stopped"


@pytest.fixture
def run(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    return tmp_path / "run"


def test_a_damaged_checkpoint_is_replaced_by_the_previous_one(ibrl, run):
    content = (run / "checkpoint.pt").read_bytes()
    (run / "checkpoint.pt").write_bytes(content[: len(content) // 2])
    code, out, error = ibrl("train", f"resume={run}")
    assert code == 0, error
    assert "checkpoint.pt: not a checkpoint" in out and "from checkpoint-previous.pt" in out


def test_a_missing_episode_is_an_error(ibrl, run):
    min((run / "episodes").iterdir()).unlink()
    code, _, error = ibrl("train", f"resume={run}")
    assert code == 2 and error.count("\n") == 1
    assert "was trained with first=" in error or "episodes: holds" in error


def test_other_demonstrations_are_refused(ibrl, run, box_close_demos):
    shutil.copy(box_close_demos, run / "demos.hdf5")
    code, _, error = ibrl("train", f"resume={run}")
    assert code == 2 and "demos differs from the one of its start" in error


def test_a_full_disk_is_an_error_and_keeps_the_checkpoint(ibrl, run):
    """The system refuses files beyond a size, as a full disk does."""
    before = (run / "checkpoint.pt").read_bytes()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        code, _, error = ibrl("train", f"resume={run}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    assert code == 2 and "cannot be written" in error and "free some space" in error
    assert (run / "checkpoint.pt").read_bytes() == before
    assert ibrl("train", f"resume={run}")[0] == 0
