"""Runs whose imitation policy goes on learning: files, resumption, evaluation, refusals."""

import shutil
import sys

import pytest
import torch
from support.tables import timeless

from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs.checkpoint import load_checkpoint, save_checkpoint
from ibrl_torchrl.runs.tables import read_rows

# The loss of actor_proposal does not hold the policy: the checkpoint has to.
SETTINGS = [
    *("task=metaworld/handle-press", "task.horizon=30", "total_frames=240", "demos.episodes=1"),
    *("algo=actor_proposal", "imitation.bc.steps=150", "imitation.bc.network.hidden=[32]"),
    *("imitation.bc.self_imitation.every=20", "imitation.bc.self_imitation.steps=5"),
    *("algo.actor.hidden=[16]", "algo.critic.hidden=[16]", "algo.warmup.episodes=3"),
    *("algo.update.frames_per_round=10", "replay.batch_size=16", "replay.capacity=2000"),
    *("log.every=1", "eval.every=100", "eval.episodes=1", "eval.final_episodes=2"),
    *("checkpoint_every=80", "collector.workers=0"),
]
TABLES = ("train.csv", "eval.csv", "evaluation.csv")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """Finished run."""
    pytest.importorskip("metaworld")
    from ibrl_torchrl.cli import main as cli

    folder = tmp_path_factory.mktemp("self_imitation") / "run"
    argv, sys.argv = sys.argv, ["ibrl", "train", f"run_dir={folder}", *SETTINGS]
    try:
        cli.main()
    finally:
        sys.argv = argv
    return folder


def weights(path, *names):
    kind = "ibrl" if path.name != "bc.pt" else "imitation"
    state = load_checkpoint(path, kind, {})[1]
    for name in names:
        state = state[name]
    return state


def are_equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.simulator
def test_the_policy_learns_and_its_file_keeps_the_initial_weights(run_dir):
    initial = weights(run_dir / "imitation/bc.pt", "policy")
    trained = weights(run_dir / "checkpoint.pt", "self_imitation", "bc")
    assert not are_equal(initial, trained["policy"])
    rows = read_rows(run_dir / "train.csv")
    frames = {int(row["frames"]) for row in rows}
    assert trained["rounds"] == max(frames) // 20
    first = next(i for i, row in enumerate(rows) if row["episode_success"] == "1")
    losses = [row["loss_imitation/bc"] for row in rows]
    assert not any(losses[:first]) and any(losses[first:])
    # 5 steps for each multiple of 20 frames that passed since the first success.
    before = int(rows[first - 1]["frames"]) // 20 if first else 0
    (steps,) = {int(s["step"]) for s in trained["optimizer"]["state"].values()}
    assert steps == 5 * (trained["rounds"] - before)


@pytest.mark.simulator
def test_eval_evaluates_the_current_weights(ibrl, run_dir, tmp_path):
    out = tmp_path / "episodes.csv"
    code, _, error = ibrl("eval", run_dir, "episodes=2", f"out={out}")
    assert code == 0, error
    assert read_rows(out) == read_rows(run_dir / "evaluation.csv")
    from ibrl_torchrl.evaluation.load import load_run

    for name in ("checkpoint.pt", "best.pt"):
        agent = load_run(run_dir, name, seed=1, threads=1, device="cpu").agent
        loaded = agent.policies["bc"].state_dict()
        stored = weights(run_dir / name, "self_imitation", "bc", "policy")
        by_suffix = {key.split("module.")[-1]: value for key, value in loaded.items()}
        assert are_equal(by_suffix, stored)


def refuse_damaged_states(ibrl, run, tmp_path):
    """Resume copies of a run whose checkpoint lacks a part, or counts more rounds than frames."""
    damages = {
        "self_imitation is missing, expected dict": lambda state: state.pop("self_imitation"),
        "counts 100000 rounds of bc in": lambda state: state["self_imitation"]["bc"].update(
            rounds=100_000
        ),
        "the optimiser self_imitation.bc has other settings": lambda state: state["self_imitation"][
            "bc"
        ]["optimizer"].update(param_groups=[]),
    }
    for index, (message, damage) in enumerate(damages.items()):
        copy = tmp_path / f"damaged{index}"
        shutil.copytree(run, copy)
        (copy / "checkpoint-previous.pt").unlink()
        meta, state = load_checkpoint(copy / "checkpoint.pt", "ibrl", {})
        damage(state)
        save_checkpoint(copy / "checkpoint.pt", "ibrl", meta, state)
        code, _, error = ibrl("train", f"resume={copy}")
        assert code == 2 and message in error, error


@pytest.mark.simulator
def test_a_stopped_run_resumes_to_the_same_numbers(ibrl, ibrl_until, run_dir, tmp_path):
    run = tmp_path / "stopped"
    # Which is there after the second checkpoint.
    assert ibrl_until("checkpoint-previous.pt", f"run_dir={run}", *SETTINGS)[0] != 0
    stopped_at = weights(run / "checkpoint.pt", "self_imitation", "bc")["rounds"]
    assert 0 < stopped_at < weights(run_dir / "checkpoint.pt", "self_imitation", "bc")["rounds"]
    refuse_damaged_states(ibrl, run, tmp_path)
    code, output, error = ibrl("train", f"resume={run}")
    assert code == 0 and "resuming from frame" in output, error
    for name in TABLES:
        assert timeless(run / name) == timeless(run_dir / name)
    for names in (("loss",), ("self_imitation", "bc", "policy")):
        assert are_equal(*(weights(each / "checkpoint.pt", *names) for each in (run, run_dir)))


@pytest.mark.slow
@pytest.mark.simulator
def test_workers_give_the_same_numbers(ibrl, run_dir, tmp_path):
    workers = ["collector.workers=1", "collector.overlap=false"]
    code, _, error = ibrl("train", f"run_dir={tmp_path / 'run'}", *SETTINGS, *workers)
    assert code == 0, error
    for name in TABLES:
        assert timeless(tmp_path / "run" / name) == timeless(run_dir / name)


EVERY = "imitation.bc.self_imitation.every=500"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            [EVERY, "replay.cache_proposals=true"],
            r"^replay\.cache_proposals=True must be false with imitation\.bc\.self_imitation\."
            r"every=500, which changes the actions that it stores$",
        ),
        (
            [EVERY, "algo=rft_dynamic"],
            r"^imitation\.bc\.self_imitation\.every=500 must be null unless algo\.loss\.q_filter=",
        ),
        (
            ["imitation.bc.self_imitation.every=0", "algo=ibrl"],
            r"^imitation\.bc\.self_imitation\.every=0 must be at least 1$",
        ),
    ],
)
def test_what_relies_on_a_frozen_policy_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        parse(TrainConfig, composed("train", settings))


def test_the_method_replaces_the_cache_of_an_experiment():
    config = parse(
        TrainConfig, composed("train", ["experiment=small_pixels", "algo=ibrl_self_imitation"])
    )
    assert config.imitation["bc"].self_imitation.every == 500
    assert not config.replay.cache_proposals
