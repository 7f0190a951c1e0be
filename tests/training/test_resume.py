"""Resumption: runs interrupted at any time give the results of uninterrupted ones."""

import re
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
ANNEALED = [f"replay.offline_fraction_{each}" for each in ("final=0", "frames=600")]
SELF_IMITATION = [f"imitation.bc.self_imitation.{each}" for each in ("every=30", "steps=3")]
# The replay keeps a part of the episodes, in files.
SMALL_MEMMAP = ["replay.storage=memmap", "replay.capacity=200"]


def killed_runs(folder, kills, *settings):
    command = [sys.executable, str(KILLED_RUNS), str(folder), str(kills), *settings]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("kills", "settings"),
    [
        (8, []),
        (4, MIXED_REPLAY),
        (4, [*MIXED_REPLAY, *ANNEALED]),
        (4, ["algo=ibrl", *SELF_IMITATION]),
        (6, ["algo.loss.q_filter=false", *SMALL_MEMMAP, *SELF_IMITATION]),
    ],
)
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
    assert not names & {"checkpoint-previous.pt", "episodes", "replay"}


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


def test_a_missing_checkpoint_is_replaced_by_the_previous_one(ibrl, run):
    """Also where an attempt to resume ends before its first checkpoint."""
    previous = (run / "checkpoint-previous.pt").read_bytes()
    (run / "checkpoint.pt").unlink()
    code, out, error = ibrl("train", f"resume={run}")
    assert code == 0, error
    assert "checkpoint.pt: no such checkpoint; resuming from checkpoint-previous.pt" in out
    assert "starts again" not in out and previous


def test_a_damaged_checkpoint_does_not_replace_the_previous_one(run):
    """The first checkpoint of a resumed run is stopped by a full disk."""
    previous = (run / "checkpoint-previous.pt").read_bytes()
    (run / "checkpoint.pt").write_bytes(b"damaged")
    script = f"ulimit -f {len(previous) // 4096}; trap '' XFSZ; exec \"$@\""
    command = [sys.executable, "-m", "ibrl_torchrl", "train", f"resume={run}"]
    ended = subprocess.run(["bash", "-c", script, "bash", *command], capture_output=True, text=True)
    assert ended.returncode == 2 and "free some space" in ended.stderr
    assert (run / "checkpoint-previous.pt").read_bytes() == previous


def test_lost_checkpoints_do_not_cost_the_episodes(ibrl, run):
    for name in ("checkpoint.pt", "checkpoint-previous.pt"):
        (run / name).unlink()
    before = sorted((run / "episodes").iterdir())
    code, _, error = ibrl("train", f"resume={run}")
    assert code == 2 and "neither checkpoint.pt nor checkpoint-previous.pt; restore" in error
    assert sorted((run / "episodes").iterdir()) == before


EDITS = [
    ("config.yaml", r"seed: 1\n", "seed: 2\n", "seed=2, was 1"),
    ("config.yaml", r"lr: 0.0003", "lr: 0.1", "algo.update.lr=0.1, was 0.0003"),
    ("config.yaml", r"total_frames: 900", "total_frames: 50", "total_frames=50, was 900"),
    ("config.yaml", r"gamma: 0.99", "gamma: 0.5", "algo.loss.gamma=0.5, was 0.99"),
    ("run.json", r'"demos": "\w+"', '"demos": "0"', "inputs.demos='0', was '"),
    ("run.json", r'"torch": "', '"torch": "9', "versions.torch='9"),
    ("run.json", r'"commit": ', '"commit_": ', "commit=missing, was "),
    ("run.json", r'"command": "', '"command": "no ', "checkpoint in command="),
]


@pytest.mark.parametrize(("file", "pattern", "replacement", "difference"), EDITS)
def test_edited_runs_are_refused_by_the_difference(
    ibrl, run, file, pattern, replacement, difference
):
    content = (run / file).read_text()
    edited, count = re.subn(pattern, replacement, content)
    assert count >= 1
    (run / file).write_text(edited)
    code, _, error = ibrl("train", f"resume={run}")
    assert code == 2 and error.count("\n") == 1
    assert difference in error or "was started with torch" in error
    (run / file).write_text(content)


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
