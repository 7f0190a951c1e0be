"""Runs with an exploration actor."""

import pytest
from support.tables import timeless

from ibrl_torchrl import load_policy
from ibrl_torchrl.runs.tables import read_rows

pytestmark = [pytest.mark.simulator, pytest.mark.slow]

TINY = [
    *("task=metaworld/handle-press", "task.horizon=30", "total_frames=360", "demos.episodes=1"),
    *("imitation.bc.steps=20", "imitation.bc.network.hidden=[16]", "algo.exploration_actor=true"),
    *("algo.actor.hidden=[16]", "algo.critic.hidden=[16]", "algo.warmup.episodes=1"),
    *("algo.exploration_share=0.5", "algo.fallback.policy=bc", "algo.fallback.episodes=1"),
    *("algo.update.frames_per_round=10", "replay.batch_size=16", "log.every=1", "eval.every=60"),
    *("eval.episodes=2", "eval.final_episodes=2", "checkpoint_every=60"),
]
SHARE = "proposal_share/acting/exploration"


@pytest.fixture(autouse=True)
def metaworld():
    pytest.importorskip("metaworld")


@pytest.mark.parametrize("workers", [0, 1])
def test_it_acts_in_training_alone_and_resumed_runs_repeat_it(ibrl, ibrl_until, tmp_path, workers):
    run, stopped = tmp_path / "run", tmp_path / "stopped"
    after = "algo.exploration_bootstrap=true"
    arguments = [*TINY, after, f"collector.workers={workers}"]
    code, output, error = ibrl("train", f"run_dir={run}", *arguments)
    assert code == 0 and "acting by rl, bc, exploration" in output, error
    acted = [float(row[SHARE]) for row in read_rows(run / "train.csv")]
    assert max(acted) > 0 and 0 in acted
    assert {row[SHARE] for row in read_rows(run / "eval.csv")} == {"0"}
    in_target = {row["proposal_share/target/exploration"] for row in read_rows(run / "train.csv")}
    assert "0" in in_target and len(in_target) > 1
    assert ibrl_until("checkpoint.pt", f"run_dir={stopped}", *arguments)[0] != 0
    code, output, error = ibrl("train", f"resume={stopped}")
    assert code == 0 and "resuming from frame" in output, error
    for name in ("train.csv", "eval.csv", "evaluation.csv"):
        assert timeless(stopped / name) == timeless(run / name)


def test_other_commands_read_its_runs(ibrl, tmp_path):
    run = tmp_path / "run"
    code, _, error = ibrl("train", f"run_dir={run}", *TINY, "collector.workers=0")
    assert code == 0, error
    policy = load_policy(run)
    policy.act({"state": policy.spaces.observation_spec.zero()["state"].numpy()})
    assert policy.decision.proposal in ("rl", "bc")
    for command in (
        ["eval", run, "episodes=2", "workers=0"],
        ["diagnose", run, "episodes=2"],
        ["report", run, f"out={tmp_path / 'report'}"],
        ["export", run, f"out={tmp_path / 'policy.pt2'}"],
    ):
        code, _, error = ibrl(*map(str, command))
        assert code == 0, f"{command[0]}: {error}"
    columns = next(iter(read_rows(run / "diagnosis_steps.csv")))
    assert "value/exploration" in columns
