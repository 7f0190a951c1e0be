"""Runs whose evaluations fall back to the imitation policy."""

from pathlib import Path

import pytest
from support.tables import timeless

from ibrl_torchrl import load_policy
from ibrl_torchrl.runs.checkpoint import load_checkpoint
from ibrl_torchrl.runs.tables import read_rows

pytestmark = [pytest.mark.simulator, pytest.mark.slow]

TINY = [
    *("task=metaworld/handle-press", "task.horizon=30", "total_frames=240", "demos.episodes=1"),
    *("imitation.bc.steps=20", "imitation.bc.network.hidden=[16]", "algo.fallback.policy=bc"),
    *("algo.actor.hidden=[16]", "algo.critic.hidden=[16]", "algo.warmup.episodes=1"),
    *("algo.update.frames_per_round=10", "replay.batch_size=16", "log.every=1", "eval.every=60"),
    *("eval.episodes=2", "eval.final_episodes=2", "checkpoint_every=60", "collector.workers=0"),
]


@pytest.fixture(autouse=True)
def metaworld():
    pytest.importorskip("metaworld")


def shares_of_imitation(run: Path) -> list[float]:
    """Share of the imitation policy's actions in the hybrid's evaluations, in order."""
    hybrid = [row for row in read_rows(run / "eval.csv") if row["policy"] == "hybrid"]
    return [float(row["proposal_share/acting/bc"]) for row in hybrid]


def test_the_imitation_policy_acts_until_enough_episodes_succeed(ibrl, tmp_path):
    run = tmp_path / "run"
    code, _, error = ibrl("train", f"run_dir={run}", *TINY, "algo.fallback.episodes=99")
    assert code == 0, error
    assert shares_of_imitation(run) == [1.0] * 4  # at 60, 120, 180 frames and at the end
    policy = load_policy(run)
    policy.act({"state": policy.spaces.observation_spec.zero()["state"].numpy()})
    assert policy.decision.proposal == "bc"
    code, output, error = ibrl("eval", run, "episodes=2", "workers=0")
    assert code == 0, error
    lines = {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.split()}
    assert lines["hybrid"][:2] == lines["bc"][:2]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_decides_alike(ibrl, ibrl_until, tmp_path, workers):
    # The untrained policies solve this task now and then; one episode is enough to be trusted.
    run, stopped = tmp_path / "run", tmp_path / "stopped"
    arguments = [*TINY, "algo.fallback.episodes=1", f"collector.workers={workers}"]
    code, _, error = ibrl("train", f"run_dir={run}", *arguments)
    assert code == 0, error
    assert min(shares_of_imitation(run)) < 1
    assert ibrl_until("checkpoint.pt", f"run_dir={stopped}", *arguments)[0] != 0
    code, output, error = ibrl("train", f"resume={stopped}")
    assert code == 0 and "resuming from frame" in output, error
    for name in ("train.csv", "eval.csv", "evaluation.csv"):
        assert timeless(stopped / name) == timeless(run / name)
    states = [load_checkpoint(each / "checkpoint.pt", "ibrl", {})[1] for each in (run, stopped)]
    assert states[0]["fallback"] == states[1]["fallback"]


def test_an_unknown_policy_is_refused(ibrl, tmp_path):
    code, _, error = ibrl("train", f"run_dir={tmp_path / 'run'}", *TINY, "algo.fallback.policy=cb")
    assert code == 2 and "algo.fallback.policy" in error and "cb" in error
