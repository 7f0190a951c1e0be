"""Action chunks in ``ibrl bc`` and ``ibrl train``: saved, resumed, refused by name."""

import csv
from pathlib import Path

import pytest
import torch

from ibrl_torchrl.builders.imitation import load_policies
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.imitation import ImitationConfig
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.errors import UsageError

TASK = ["task=metaworld/handle-press", "task.horizon=30", "demos.episodes=1"]
SMALL = [
    *("imitation.bc.network.hidden=[16]", "imitation.bc.steps=20", "algo.actor.hidden=[16]"),
    *("algo.critic.hidden=[16]", "algo.warmup.episodes=1", "algo.update.frames_per_round=10"),
    *("replay.batch_size=16", "total_frames=80", "log.every=1", "eval.every=60"),
    *("eval.episodes=1", "eval.final_episodes=2", "collector.workers=0"),
]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [*csv.DictReader(file)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["algo.chunk.replan=2"], r"^algo\.chunk\.replan=2 must be at most algo\.chunk\.size=1$"),
        (
            ["imitation.bc.chunk={size: 3, replan: 4}"],
            r"^imitation\.bc\.chunk\.replan=4 must be at most imitation\.bc\.chunk\.size=3$",
        ),
        (
            ["algo.chunk.size=4", "imitation.bc.chunk.size=3"],
            r"^imitation\.bc\.chunk\.size=3 must be at least algo\.chunk\.size=4, as "
            r"algo\.proposals\.acting\.policies names bc$",
        ),
        (
            ["algo=rft", "algo.chunk.size=2", "imitation.bc.chunk.size=3"],
            r"^imitation\.bc\.chunk\.size=3 must be algo\.chunk\.size=2, for algo\.actor_init=bc",
        ),
    ],
)
def test_chunks_that_do_not_fit_are_refused_with_the_remedy(settings, message):
    with pytest.raises(UsageError, match=message):
        parse(TrainConfig, composed("train", ["algo=ibrl", *settings]))


def test_only_the_warm_up_may_have_shorter_chunks():
    settings = [f"algo.proposals.{use}.policies=[rl]" for use in ("acting", "bootstrap")]
    config = parse(TrainConfig, composed("train", ["algo=ibrl", "algo.chunk.size=4", *settings]))
    assert config.algo.warmup.policy == "bc"


@pytest.mark.slow
@pytest.mark.simulator
@pytest.mark.parametrize(
    "settings",
    [
        ["algo.chunk.size=3", "imitation.bc.chunk={size: 5, replan: 4}"],
        ["imitation.bc.chunk={size: 5, replan: 1}", "replay.cache_proposals=true"],
        [
            *("algo=ibrl_tqc", "algo.chunk={size: 3, replan: 2}", "algo.actor_init=bc"),
            *("imitation.bc.policy=cvae", "imitation.bc.chunk.size=3"),
        ],
        ["algo=expo", "algo.chunk.size=2", "imitation.bc.chunk.size=2"],
    ],
    ids=["longer", "single-step-critics-cached", "plan", "edited"],
)
def test_a_run_of_chunks_is_evaluated_alike_from_its_folder(ibrl, tmp_path, settings):
    pytest.importorskip("metaworld")
    run = tmp_path / "run"
    code, _, error = ibrl("train", f"run_dir={run}", "algo=ibrl", *TASK, *SMALL, *settings)
    assert code == 0, error
    assert int(rows(run / "train.csv")[-1]["rounds"]) > 0
    assert [row["policy"] for row in rows(run / "evaluation.csv")[::2]] == ["hybrid", "rl", "bc"]
    code, _, error = ibrl("eval", run, "episodes=2", "workers=0", f"out={tmp_path}/again.csv")
    assert code == 0, error
    assert rows(tmp_path / "again.csv") == rows(run / "evaluation.csv")
    code, _, error = ibrl("diagnose", run, "episodes=1", "num_states=1")
    assert code == 0, error


@pytest.mark.slow
@pytest.mark.simulator
def test_policies_of_another_chunk_are_refused_by_name(ibrl, tmp_path):
    pytest.importorskip("metaworld")
    from ibrl_torchrl.builders.env import build_env

    run, small = tmp_path / "bc", ["imitation.bc.network.hidden=[16]", "imitation.bc.steps=20"]
    chunk = "imitation.bc.chunk.size=3"
    code, _, error = ibrl("bc", f"run_dir={run}", "eval.final_episodes=1", *TASK, *small, chunk)
    assert code == 0, error
    config = parse(TrainConfig, composed("train", ["algo=ibrl", *TASK, *small, chunk]))
    env = build_env(config.task, torch.device("cpu"))
    assert load_policies(run, config.imitation, config.task, env)["bc"].mlp[-1].out_features == 12
    single = {"bc": ImitationConfig(network=config.imitation["bc"].network)}
    with pytest.raises(UsageError, match=r"imitation\.NAME\.chunk\.size=3, not 1; set it so"):
        load_policies(run, single, config.task, env)
