"""Diagnosis on real simulators: returns by hand, restarts from named states, tables."""

import csv

import numpy as np
import pytest
import torch

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.config.task import TaskConfig
from ibrl_torchrl.data.demos.describe import describe_demos
from ibrl_torchrl.data.demos.trajectories import read_trajectories
from ibrl_torchrl.envs import make_env
from ibrl_torchrl.evaluation.diagnosis import (
    Demonstrations,
    ScoredEpisode,
    ScoredStep,
    rollouts_from_states,
)

TINY = [
    "collector.workers=0",
    *("frames=120", "algo.warmup_episodes=1", "algo.update_every=20", "task.horizon=40"),
    *("bc.steps=20", "eval.every=1000", "eval.final_episodes=1", "demos.episodes=3"),
]


def played(length, *, success):
    moments = (ScoredStep(i, 0, (0.0, 0.0), 0.0, np.zeros(1)) for i in range(length))
    return ScoredEpisode(1, success, tuple(moments))


def test_returns_are_discounted_from_each_moment_on():
    assert played(3, success=True).returns(0.5) == [0.25, 0.5, 1.0]
    assert played(3, success=False).returns(0.5) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("suite", "task"), [("metaworld", "box-close"), ("robosuite", "Lift")])
def test_an_episode_can_begin_at_a_state(suite, task):
    pytest.importorskip(suite)
    env = make_env(suite, task, seed=3)
    steps = env.rollout(5, lambda td: td.set("action", torch.full(env.action_spec.shape, 0.3)))
    state = env.simulator_state()
    env.set_reset_state(state)
    assert torch.allclose(env.reset()["state"], steps[-1]["next", "state"], atol=1e-5)
    assert not torch.allclose(env.reset()["state"], steps[-1]["next", "state"], atol=1e-3)
    env.close()


def test_stacks_begin_there_too():
    pytest.importorskip("metaworld")
    task = TaskConfig("metaworld", "box-close", action_repeat=2, horizon=20, state_stack=2)
    env = build_env(task)
    env.rollout(5)
    state = env.base_env.simulator_state()
    env.base_env.set_reset_state(state)
    stacked = env.reset()["state"]
    assert (stacked[:39] == 0).all() and (stacked[39:] != 0).any()


def test_restarts_repeat_and_ask_the_expert(box_close_demos):
    from ibrl_torchrl.experts import scripted_expert

    env = make_env("metaworld", "box-close", horizon=100)
    demos = Demonstrations(
        [*read_trajectories(box_close_demos)], describe_demos(box_close_demos).env_args
    )
    visited = [
        ScoredEpisode(
            0, True, tuple(ScoredStep(i, 0, (0.0, 0.0), 0.0, s) for i, s in enumerate(states))
        )
        for states in [demos.recordings[0].simulator_states]
    ]
    expert = scripted_expert("metaworld", "box-close")
    found = [*rollouts_from_states(env, expert, expert, demos, visited, 3, seed=5)]
    assert [each.source for each in found] == ["visited"] * 3 + ["demonstrated"] * 3
    assert all(each.success for each in found)  # the expert goes on from where it was
    assert [each.error for each in found] == [0.0] * 6
    assert found == [*rollouts_from_states(env, expert, expert, demos, visited, 3, seed=5)]


def test_the_command(ibrl, box_close_demos, tmp_path):
    run = tmp_path / "run"
    code, _, errors = ibrl("train", f"demos.path={box_close_demos}", f"run_dir={run}", *TINY)
    assert code == 0, errors
    code, output, errors = ibrl("diagnose", run, "episodes=2", "starts=2")
    assert code == 0, errors
    assert "value - return in 2 failed episodes" in output
    assert "BC policy from demonstrated states: success" in output
    with (run / "diagnosis_moments.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == 80 and {row["return"] for row in rows} == {"0"}
    for row in rows:
        better = max(float(row["rl_value"]), float(row["il_value"]))
        assert float(row["value"]) == pytest.approx(better, abs=1e-6)
    with (run / "diagnosis_restarts.csv").open() as file:
        assert [row["source"] for row in csv.DictReader(file)] == ["visited"] * 2 + [
            "demonstrated"
        ] * 2

    # SQIL's values are of other rewards than the task's.
    run = tmp_path / "sqil"
    given = [f"demos.path={box_close_demos}", f"run_dir={run}", *TINY]
    code, _, errors = ibrl("train", "algo=sqil", *given)
    assert code == 0, errors
    code, output, errors = ibrl("diagnose", run, "episodes=1", "starts=1")
    assert code == 0 and "value - return" not in output, errors
    with (run / "diagnosis_moments.csv").open() as file:
        assert {row["return"] for row in csv.DictReader(file)} == {""}

    code, _, errors = ibrl("diagnose", tmp_path, "episodes=2")
    assert code == 2 and "not a run folder" in errors
