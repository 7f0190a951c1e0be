"""Runs with two imitation policies: run folder, columns, resumption, evaluation, learner."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
from support.tables import timeless

pytest.importorskip("metaworld")

from ibrl_torchrl.cli import main as cli
from ibrl_torchrl.evaluation.load import load_run
from ibrl_torchrl.runs.checkpoint import load_checkpoint

pytestmark = pytest.mark.simulator

NAMES = ["rl", "bc", "other"]
SETTINGS = [
    *("task=metaworld/handle-press", "task.horizon=30", "total_frames=150", "demos.episodes=1"),
    *("imitation.bc.steps=20", "imitation.bc.network.hidden=[16]"),
    "+imitation.other={network: {hidden: [16]}, steps: 20}",
    *(f"algo.proposals.{use}.policies=[rl,bc,other]" for use in ("acting", "bootstrap")),
    *("algo.actor.hidden=[16]", "algo.critic.hidden=[16]", "algo.warmup.episodes=1"),
    *("algo.update.frames_per_round=10", "algo.update.lr=0.002", "algo.update.critic_updates=3"),
    *("replay.batch_size=16", "log.every=1", "eval.every=60", "eval.episodes=1"),
    *("eval.final_episodes=2", "checkpoint_every=60", "collector.workers=0"),
]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [*csv.DictReader(file)]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """Finished run; both imitation policies propose, while acting and in the TD target."""
    folder = tmp_path_factory.mktemp("named") / "run"
    argv, sys.argv = sys.argv, ["ibrl", "train", f"run_dir={folder}", *SETTINGS]
    try:
        cli.main()
    finally:
        sys.argv = argv
    return folder


def test_run_folder_holds_every_imitation_policy(run_dir):
    files = {path.name for path in (run_dir / "imitation").iterdir()}
    assert files == {"bc.pt", "other.pt"}
    inputs = json.loads((run_dir / "run.json").read_text())["inputs"]
    assert inputs.keys() == {"demos", "bc", "other"} and inputs["bc"] != inputs["other"]


def test_shares_of_all_proposals_add_up_to_one(run_dir):
    train = rows(run_dir / "train.csv")
    for use, table in (("acting", train), ("target", [r for r in train if r["rounds"] != "0"])):
        columns = [f"proposal_share/{use}/{name}" for name in NAMES]
        assert [name for name in train[0] if name.startswith(f"proposal_share/{use}/")] == columns
        assert table
        for row in table:
            assert sum(float(row[column]) for column in columns) == pytest.approx(1, abs=1e-5)
    # The warm-up's policy is bc.
    assert [train[0][f"proposal_share/acting/{name}"] for name in NAMES] == ["0", "1", "0"]


def test_final_evaluation_is_of_the_hybrid_and_of_every_policy(run_dir):
    episodes = rows(run_dir / "evaluation.csv")
    assert [row["policy"] for row in episodes[::2]] == ["hybrid", *NAMES]
    for row in episodes:
        frames = {name: int(row[f"proposal_frames/{name}"]) for name in NAMES}
        assert sum(frames.values()) == int(row["length"])
        if row["policy"] != "hybrid":
            assert frames[row["policy"]] == int(row["length"])
    # Before learning starts, the imitation policies alone are evaluated.
    assert [row["policy"] for row in rows(run_dir / "eval.csv")][:2] == ["bc", "other"]


def test_eval_command_lists_and_repeats_every_policy(ibrl, run_dir, tmp_path):
    out = tmp_path / "episodes.csv"
    code, output, error = ibrl("eval", run_dir, "episodes=2", "workers=0", f"out={out}")
    assert code == 0, error
    header, *table = output.splitlines()
    assert [line.split()[0] for line in table] == ["hybrid", *NAMES]
    assert "bc share" in header and "other share" in header
    assert rows(out) == rows(run_dir / "evaluation.csv")


def test_stopped_run_resumes_to_the_same_numbers(ibrl, ibrl_until, run_dir, tmp_path):
    run = tmp_path / "stopped"
    assert ibrl_until("checkpoint.pt", f"run_dir={run}", *SETTINGS)[0] != 0
    assert not (run / "evaluation.csv").exists()
    policies = {path: path.read_bytes() for path in (run / "imitation").iterdir()}
    code, output, error = ibrl("train", f"resume={run}")
    assert code == 0, error
    assert "resuming from frame" in output
    for name in ("train.csv", "eval.csv", "evaluation.csv"):
        assert timeless(run / name) == timeless(run_dir / name)
    expected = load_checkpoint(run_dir / "checkpoint.pt", "ibrl", {})[1]["loss"]
    for key, value in load_checkpoint(run / "checkpoint.pt", "ibrl", {})[1]["loss"].items():
        assert torch.equal(value, expected[key]), key
    assert {*policies} == {*(run / "imitation").iterdir()}


def test_update_settings_reach_the_optimizers(run_dir):
    _, state = load_checkpoint(run_dir / "checkpoint.pt", "ibrl", {})
    optimizers = state["optimizers"]
    assert optimizers.keys() == {"loss_qvalue", "loss_actor"}
    for optimizer in optimizers.values():
        assert [group["lr"] for group in optimizer["param_groups"]] == [0.002]
    rounds = int(rows(run_dir / "train.csv")[-1]["rounds"])
    steps = {
        name: {int(entry["step"]) for entry in optimizer["state"].values()}
        for name, optimizer in optimizers.items()
    }
    assert steps == {"loss_qvalue": {3 * rounds}, "loss_actor": {rounds}}


def test_load_run_constructs_no_optimizer(run_dir, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise AssertionError("an optimizer was constructed")

    monkeypatch.setattr(torch.optim.Optimizer, "__init__", refuse)
    monkeypatch.setattr(torch.optim.Adam, "__init__", refuse)
    loaded = load_run(run_dir, seed=1, threads=None, device="cpu")
    assert loaded.agent.proposals == ("rl", "bc", "other")
    assert loaded.frames == int(rows(run_dir / "train.csv")[-1]["frames"])
    state = loaded.env.reset()
    with torch.no_grad():
        assert loaded.agent.scored(state)["proposal_values"].shape == (3,)


def test_run_without_imitation_policies(ibrl, tmp_path):
    run = tmp_path / "run"
    unused = ("+imitation.other", "imitation.bc", "algo.proposals")
    settings = [setting for setting in SETTINGS if not setting.startswith(unused)]
    code, _, error = ibrl("train", f"run_dir={run}", "algo=rlpd", "~imitation.bc", *settings)
    assert code == 0, error
    final = rows(run / "evaluation.csv")
    assert [row["policy"] for row in final[::2]] == ["hybrid", "rl"]
    assert not (run / "imitation").exists() or not [*(run / "imitation").iterdir()]
    code, output, error = ibrl("eval", run, "episodes=1", "workers=0")
    assert code == 0, error
    assert [line.split()[0] for line in output.splitlines()[1:]] == ["hybrid", "rl"]
