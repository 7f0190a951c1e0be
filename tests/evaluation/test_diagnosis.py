"""Diagnosis: scored episodes, rollouts from states, and the command."""

import numpy as np
import pytest
import torch
from support.parts import Constant, Countdown, critics
from tensordict.nn import TensorDictModule, TensorDictSequential

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.config.task import TaskConfig
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.data.demos.describe import describe_demos
from ibrl_torchrl.data.demos.trajectories import read_trajectories
from ibrl_torchrl.envs import make_env
from ibrl_torchrl.evaluation.diagnosis import (
    Demonstrations,
    ScoredEpisode,
    ScoredStep,
    rollouts_from_states,
    score_episodes,
)
from ibrl_torchrl.evaluation.diagnosis_inputs import memoryless_expert, return_discount
from ibrl_torchrl.experts import RobosuiteExpert, scripted_expert
from ibrl_torchrl.modules import IBRLSelector
from ibrl_torchrl.runs.tables import read_rows

SMALL_RUN = [
    *("collector.workers=0", "total_frames=120", "task.horizon=40", "demos.episodes=3"),
    *("algo.warmup.episodes=1", "algo.update.frames_per_round=20", "imitation.bc.steps=20"),
    *("eval.every=1000", "eval.final_episodes=1"),
]


def scored_step(step, state):
    return ScoredStep(step, "rl", {"rl": 0.0, "bc": 0.0}, {"bc": 0.0}, state)


class CountdownSimulator(Countdown):
    def simulator_state(self):
        return np.array([self.number, self.elapsed])


@pytest.mark.parametrize(("success", "returns"), [(True, [0.25, 0.5, 1.0]), (False, [0.0] * 3)])
def test_returns_are_discounted_successes(success, returns):
    steps = tuple(scored_step(i, np.zeros(1)) for i in range(3))
    assert ScoredEpisode(1, success, steps).returns(0.5) == returns


def test_score_episodes_names_proposals_values_and_distances():
    names = ("rl", "bc", "diffusion")
    keys = [f"{name}_action" for name in names]
    actions = (0.25, -0.5, 0.75)
    policy = TensorDictSequential(
        *(
            TensorDictModule(Constant(action), ["state"], [key])
            for action, key in zip(actions, keys, strict=True)
        ),
        IBRLSelector(critics([1.0, 2.0]), keys),
    )
    (first, second) = score_episodes(CountdownSimulator(2, 3), policy, [0, 1], names)
    assert [first.seed, second.seed] == [0, 1] and first.success
    assert [step.step for step in second.steps] == [0, 1, 2]
    for step in second.steps:
        # The minimum over Q = a and Q = 2 a.
        assert step.values == {"rl": 0.25, "bc": -1.0, "diffusion": 0.75}
        assert step.proposal == "diffusion"
        assert step.distances == {"bc": 1.25, "diffusion": 0.0}
    assert [step.simulator_state.tolist() for step in second.steps] == [[1, 0], [1, 1], [1, 2]]


@pytest.mark.simulator
@pytest.mark.parametrize(("suite", "task"), [("metaworld", "box-close"), ("robosuite", "Lift")])
def test_set_reset_state_applies_to_the_next_reset_only(suite, task):
    pytest.importorskip(suite)
    env = make_env(suite, task, seed=3)
    steps = env.rollout(5, lambda td: td.set("action", torch.full(env.action_spec.shape, 0.3)))
    state = env.simulator_state()
    env.set_reset_state(state)
    assert torch.allclose(env.reset()["state"], steps[-1]["next", "state"], atol=1e-5)
    assert not torch.allclose(env.reset()["state"], steps[-1]["next", "state"], atol=1e-3)
    env.close()


@pytest.mark.simulator
def test_set_reset_state_clears_state_stacks():
    pytest.importorskip("metaworld")
    task = TaskConfig(
        suite="metaworld", name="box-close", action_repeat=2, horizon=20, state_stack=2
    )
    env = build_env(task)
    env.rollout(5)
    state = env.base_env.simulator_state()
    env.base_env.set_reset_state(state)
    stacked = env.reset()["state"]
    assert (stacked[:39] == 0).all() and (stacked[39:] != 0).any()


@pytest.mark.simulator
def test_rollouts_from_states_are_reproducible_and_paired_between_policies(box_close_demos):
    env = make_env("metaworld", "box-close", horizon=100)
    demos = Demonstrations(
        [*read_trajectories(box_close_demos)], describe_demos(box_close_demos).env_args
    )
    states = demos.trajectories[0].simulator_states
    episodes = [ScoredEpisode(0, True, tuple(scored_step(i, s) for i, s in enumerate(states)))]
    expert = scripted_expert("metaworld", "box-close")

    def rollouts(**policies):
        return [*rollouts_from_states(env, policies, expert, demos, episodes, 3, seed=5)]

    rows = rollouts(bc=expert)
    assert [row.source for row in rows] == ["visited"] * 3 + ["demonstrated"] * 3
    assert all(row.success for row in rows)  # the memoryless expert succeeds from its own states
    assert [row.error for row in rows] == [0.0] * 6
    assert rows == rollouts(bc=expert)

    def idle(td):
        return td.set("action", torch.zeros(4))

    both = rollouts(bc=expert, idle=idle)
    assert [row for row in both if row.policy == "bc"] == rows
    idle_rows = [row for row in both if row.policy == "idle"]
    assert [(row.episode, row.step) for row in idle_rows] == [
        (row.episode, row.step) for row in rows
    ]
    assert not all(row.success for row in idle_rows) and all(row.error > 0 for row in idle_rows)


def test_memoryless_expert_excludes_plans_and_unknown_tasks():
    assert not RobosuiteExpert.is_memoryless
    assert memoryless_expert("robosuite", "Lift") is None
    assert memoryless_expert("robosuite", "ToolHang") is None
    pytest.importorskip("metaworld")
    assert memoryless_expert("metaworld", "box-close") is not None


def test_return_discount_is_unknown_for_other_rewards():
    config = TrainConfig(run_dir="unused")
    assert return_discount(config) == config.algo.loss.gamma
    config.replay.offline_reward = 1.0
    assert return_discount(config) is None


@pytest.mark.simulator
@pytest.mark.slow
def test_diagnose_command(ibrl, box_close_demos, tmp_path):
    run = tmp_path / "run"
    code, _, errors = ibrl("train", f"demos.path={box_close_demos}", f"run_dir={run}", *SMALL_RUN)
    assert code == 0, errors
    code, output, errors = ibrl("diagnose", run, "episodes=2", "num_states=2")
    assert code == 0, errors
    assert "value - return in 2 failed episodes" in output
    assert "bc from demonstrated states: success" in output
    rows = read_rows(run / "diagnosis_steps.csv")
    assert len(rows) == 80 and {row["return"] for row in rows} == {"0"}
    for row in rows:
        assert row["proposal"] in ("rl", "bc")
        chosen = float(row[f"value/{row['proposal']}"])  # not always the higher one, by the gate
        assert float(row["value"]) == pytest.approx(chosen, abs=1e-6)
        assert (float(row["distance/bc"]) == 0) == (row["proposal"] == "bc")
    rows = read_rows(run / "diagnosis_rollouts.csv")
    assert [row["source"] for row in rows] == ["visited"] * 2 + ["demonstrated"] * 2
    assert {row["policy"] for row in rows} == {"bc"}
