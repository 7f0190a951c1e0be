"""Training episodes that are truncated at a multiple of the longest demonstration."""

import math

import pytest

from ibrl_torchrl.data.demos.read import load_demos
from ibrl_torchrl.runs.tables import read_rows

TINY = [
    *("task=metaworld/reach", "task.horizon=90", "total_frames=240", "demos.episodes=2"),
    *("imitation.bc.steps=1", "imitation.bc.network.hidden=[16]", "algo.warmup.episodes=1"),
    *("algo.actor.hidden=[16]", "algo.critic.hidden=[16]", "replay.batch_size=16"),
    *("algo.update.frames_per_round=10", "log.every=1", "eval.every=1000"),
    *("eval.final_episodes=3", "algo.episode_limit=1.5"),
]


@pytest.mark.simulator
@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_training_episodes_are_truncated_and_evaluations_are_not(ibrl, tmp_path, workers):
    pytest.importorskip("metaworld")
    run = tmp_path / "run"
    code, _, error = ibrl("train", f"run_dir={run}", *TINY, f"collector.workers={workers}")
    assert code == 0, error
    limit = math.ceil(1.5 * max(map(len, load_demos(run / "demos.hdf5").episodes)))
    lengths = [int(row["episode_frames"]) for row in read_rows(run / "train.csv")]
    assert limit < 90 and max(lengths) == limit
    assert max(int(row["length"]) for row in read_rows(run / "evaluation.csv")) == 90
