"""Runs that were stopped in any way go on as if they had not been."""

import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tables import timeless

from ibrl_torchrl.training.checkpoint import load_checkpoint
from ibrl_torchrl.training.origin import read_origin

pytest.importorskip("metaworld")

KILLED_RUNS = Path(__file__).parent.parent / "killed_runs.py"
KILLS = 20


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with an undisturbed run, and with an equal one that was killed many times."""
    folder = tmp_path_factory.mktemp("runs")
    command = [sys.executable, str(KILLED_RUNS), str(folder), str(KILLS)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_kills_at_any_moment_change_nothing(runs):
    for name in ("train.csv", "eval.csv", "evaluation.csv"):
        assert timeless(runs / "killed" / name) == timeless(runs / "whole" / name)
    assert len(read_origin(runs / "killed")["resumed"]) >= KILLS // 4
    networks = [
        load_checkpoint(runs / run / "checkpoint.pt", "ibrl", {})[1]["loss"]
        for run in ("whole", "killed")
    ]
    assert networks[0].keys() == networks[1].keys()
    for key, value in networks[0].items():
        assert torch.equal(value, networks[1][key]), key


def test_a_finished_run_keeps_no_more_than_is_needed(runs):
    names = {path.name for path in (runs / "killed").iterdir()}
    assert "checkpoint-previous.pt" not in names and "episodes" not in names
    assert {"checkpoint.pt", "best.pt", "evaluation.csv"} <= names


@pytest.fixture(scope="module")
def stopped(runs, tmp_path_factory):
    """A run that was stopped after some checkpoints."""
    folder = tmp_path_factory.mktemp("stopped")
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import killed_runs as k; "
        "from pathlib import Path; f = Path(sys.argv[1]); p = k.begin(f'run_dir={f}/run', "
        "*k.SETTINGS, 'replay.demo_share=0.5', 'replay.prioritized=true', 'algo=rlpd_plus'); "
        "[k.wait_for_a_checkpoint(f / 'run/checkpoint.pt', p) for _ in range(6)]; "
        "import os, signal; os.kill(p, signal.SIGTERM); sys.exit(k.end(p))"
    )
    program = [sys.executable, "-c", code, str(KILLED_RUNS.parent), str(folder)]
    assert subprocess.run(program, capture_output=True).returncode == 130
    return folder / "run"


@pytest.fixture
def run(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    return tmp_path / "run"


def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(ibrl, run):
    content = (run / "checkpoint.pt").read_bytes()
    (run / "checkpoint.pt").write_bytes(content[: len(content) // 2])
    code, out, error = ibrl("train", f"resume={run}")
    assert code == 0, error
    assert "checkpoint.pt: not a checkpoint" in out and "from checkpoint-previous.pt" in out


def test_a_lost_episode_is_named(ibrl, run):
    min((run / "episodes").iterdir()).unlink()
    code, _, error = ibrl("train", f"resume={run}")
    assert code == 2 and error.count("\n") == 1
    assert "was trained with first=" in error or "episodes: holds" in error


def test_other_demonstrations_are_refused(ibrl, run, box_close_demos):
    shutil.copy(box_close_demos, run / "demos.hdf5")
    code, _, error = ibrl("train", f"resume={run}")
    assert code == 2 and "its demos are not those it was begun with" in error


def test_a_full_disk_is_told_and_loses_nothing(ibrl, run):
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
