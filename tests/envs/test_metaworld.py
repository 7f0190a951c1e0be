"""TorchRL environments of Meta-World tasks."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torchrl.collectors import Collector
from torchrl.envs import ParallelEnv, SerialEnv
from torchrl.envs.utils import check_env_specs, step_mdp

from ibrl_torchrl.envs import MetaWorldEnv, make_env
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.experts import scripted_expert
from ibrl_torchrl.keys import (
    ACTION,
    DONE,
    NEXT,
    PROPRIO,
    REWARD,
    STATE,
    SUCCESS,
    TERMINATED,
    TRUNCATED,
)

metaworld = pytest.importorskip("metaworld")
pytestmark = pytest.mark.simulator

TASK = "box-close"


@pytest.fixture(scope="module")
def env() -> MetaWorldEnv:
    return MetaWorldEnv(TASK, seed=0)


@pytest.fixture(scope="module")
def expert():
    return scripted_expert("metaworld", TASK)


def reset_with(env, seed):
    env.set_seed(seed)
    return env.reset()


def random_steps(env, td, count):
    """Take random actions, without using the environment's or the global generator."""
    generator = torch.Generator().manual_seed(1)
    trajectory = []
    for _ in range(count):
        td[ACTION] = torch.rand(4, generator=generator) * 2 - 1
        td = step_mdp(env.step(td))
        trajectory.append(td[STATE])
    return torch.stack(trajectory)


def test_env_satisfies_specs(env):
    check_env_specs(env)
    td = env.reset()
    assert td[STATE].shape == (39,) and td[STATE].dtype == torch.float32
    assert torch.equal(td[PROPRIO], td[STATE][:4])
    assert not td[SUCCESS]


@pytest.mark.parametrize("task", sorted(metaworld.ALL_V3_ENVIRONMENTS))
def test_initial_states_of_every_task_depend_on_seed_alone(task):
    """Meta-World's resets read body positions of the previous episode."""
    env = MetaWorldEnv(task)
    first = [reset_with(env, 7), env.reset()]
    random_steps(env, env.reset(), 5)
    second = [reset_with(env, 7), env.reset()]
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a[STATE], b[STATE])
    assert not torch.equal(first[0][STATE], first[1][STATE])


def test_metaworld_has_fifty_tasks():
    assert len(metaworld.ALL_V3_ENVIRONMENTS) == 50


def test_task_name_version_suffix_is_optional():
    assert MetaWorldEnv("reach").task == MetaWorldEnv("reach-v3").task == "reach-v3"


def test_unknown_task_suggests_closest_name():
    with pytest.raises(UsageError, match=r"'box-clse'; did you mean box-close-v3") as error:
        MetaWorldEnv("box-clse")
    assert "\n" not in str(error.value)


def test_make_env_unknown_suite_lists_suites():
    with pytest.raises(UsageError, match="unknown suite 'atari'; known are gym, metaworld"):
        make_env("atari", "pong")


@pytest.mark.parametrize(
    "repeat, horizon, message",
    [
        (0, 100, "action_repeat=0 must be at least 1"),
        (2, 0, "horizon=0 must be at least 1"),
        (2, 251, "action_repeat=2 and horizon=251.*500"),
    ],
)
def test_invalid_action_repeat_or_horizon_is_rejected(repeat, horizon, message):
    with pytest.raises(ValueError, match=message):
        MetaWorldEnv(TASK, action_repeat=repeat, horizon=horizon)


def test_state_includes_current_goal(env):
    td = env.reset()
    goal = td[STATE][-3:]
    box = env._simulator.data.body("boxbody").xpos
    np.testing.assert_allclose(goal[:2], box[:2], atol=1e-6)
    td[ACTION] = torch.zeros(4)
    assert torch.equal(env.step(td)[NEXT, STATE][-3:], goal)


@pytest.mark.parametrize("task", ["window-close", "drawer-open", "peg-insert-side"])
def test_reset_observes_current_body_positions(task):
    """Meta-World's resets observe some bodies at their previous positions."""
    env = MetaWorldEnv(task, seed=0)
    for _ in range(2):
        td = env.reset()
        after = env.step(td.clone().set(ACTION, torch.zeros(4)))[NEXT, STATE]
        torch.testing.assert_close(td[STATE][4:7], after[4:7], atol=5e-3, rtol=0)
        torch.testing.assert_close(td[STATE][-3:], after[-3:], atol=1e-6, rtol=0)


def test_seed_determines_initial_states_of_every_instance(env):
    other = MetaWorldEnv(TASK, seed=3)
    starts = [reset_with(env, 3)[STATE], env.reset()[STATE]]
    assert torch.equal(other.reset()[STATE], starts[0])
    random_steps(other, other.reset(), 3)
    assert torch.equal(reset_with(other, 3)[STATE], starts[0])
    assert torch.equal(other.reset()[STATE], starts[1])
    assert not torch.equal(reset_with(other, 4)[STATE], starts[0])


def test_global_random_states_are_neither_read_nor_changed(env):
    starts = []
    for global_seed in (0, 1):
        np.random.seed(global_seed)
        torch.manual_seed(global_seed)
        numpy_before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()
        td = reset_with(env, 5)
        random_steps(env, td, 2)
        starts.append(env.reset()[STATE])
        assert (np.random.get_state()[1] == numpy_before).all()
        assert torch.equal(torch.get_rng_state(), torch_before)
    assert torch.equal(*starts)


def test_initial_states_differ_without_seed():
    np.random.seed(0)
    first = MetaWorldEnv("reach").reset()[STATE]
    np.random.seed(0)
    assert not torch.equal(MetaWorldEnv("reach").reset()[STATE], first)


def test_success_yields_reward_once_and_terminates(env, expert):
    reset_with(env, 0)
    episode = env.rollout(100, expert)
    after = episode[NEXT]
    assert len(episode) < 100
    assert after[REWARD].sum() == 1 and after[REWARD][-1] == 1
    assert torch.equal(after[SUCCESS], after[REWARD] == 1)
    assert torch.equal(after[TERMINATED], after[SUCCESS])
    assert torch.equal(after[DONE], after[SUCCESS])
    assert not after[TRUNCATED].any()
    assert not episode[SUCCESS].any()
    assert not env.reset()[SUCCESS]


def test_action_repeat_stops_at_success(env, expert, monkeypatch):
    outcomes = iter([False, False, False, True])
    step, actions = env._simulator.step, []

    def scripted_outcome(action):
        *result, info = step(action)
        actions.append(action.tolist())
        return *result, {**info, "success": float(next(outcomes))}

    monkeypatch.setattr(env, "action_repeat", 3)
    monkeypatch.setattr(env._simulator, "step", scripted_outcome)
    td = env.reset()
    rewards = []
    for value in (0.25, 0.5):
        td[ACTION] = torch.full((4,), value)
        td = env.step(td)[NEXT]
        rewards.append(td[REWARD].item())
    assert actions == [[0.25] * 4] * 3 + [[0.5] * 4]
    assert rewards == [0.0, 1.0]


def test_action_repeat_equals_repeated_steps():
    repeating, single = (MetaWorldEnv(TASK, action_repeat=n, horizon=20, seed=2) for n in (3, 1))
    a, b = repeating.reset(), single.reset()
    action = torch.tensor([0.3, -0.2, 0.5, 1.0])
    for _ in range(3):
        b = single.step(b.set(ACTION, action))[NEXT]
    assert torch.equal(repeating.step(a.set(ACTION, action))[NEXT, STATE], b[STATE])


def test_horizon_truncates_without_terminating():
    env = MetaWorldEnv(TASK, horizon=5, seed=0)
    for _ in range(2):  # the step count restarts with each episode
        after = env.rollout(50)[NEXT]
        assert after[TRUNCATED].flatten().tolist() == [False] * 4 + [True]
        assert after[DONE].flatten().tolist() == [False] * 4 + [True]
        assert not after[TERMINATED].any() and not after[REWARD].any()


def test_success_at_horizon_is_not_truncated(expert):
    length = len(MetaWorldEnv(TASK, seed=0).rollout(100, expert))
    last = MetaWorldEnv(TASK, horizon=length, seed=0).rollout(100, expert)[NEXT][-1]
    assert last[TERMINATED] and last[DONE] and not last[TRUNCATED]


def test_horizon_may_reach_metaworld_step_limit():
    after = MetaWorldEnv("reach", action_repeat=5, horizon=100).rollout(
        200, lambda td: td.set(ACTION, torch.full((4,), -1.0))
    )
    assert after[NEXT, DONE][-1]


def test_actions_out_of_bounds_are_clipped(env):
    results = []
    for value in (1.0, 5.0):
        td = reset_with(env, 1).set(ACTION, torch.full((4,), value))
        results.append(env.step(td)[NEXT, STATE])
    assert torch.equal(*results)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_actions_are_rejected(env, value):
    td = env.reset().set(ACTION, torch.tensor([0.0, value, 0.0, 0.0]))
    with pytest.raises(ValueError, match="action must be finite, found"):
        env.step(td)


def test_action_that_requires_grad_is_accepted(env):
    env.step(env.reset().set(ACTION, torch.zeros(4, requires_grad=True)))


def test_set_simulator_state_reproduces_trajectory_exactly(env):
    td = reset_with(env, 4)
    random_steps(env, td, 7)
    state = env.simulator_state()
    observed = torch.from_numpy(env._raw_state.astype(np.float32))
    future = random_steps(env, td, 20)

    other = MetaWorldEnv(TASK, seed=99)
    other.reset()
    restored = other.set_simulator_state(state)
    assert torch.equal(restored[STATE], observed)
    np.testing.assert_array_equal(other.simulator_state(), state)
    assert torch.equal(random_steps(other, restored, 20), future)


def test_set_simulator_state_restores_step_count_and_keeps_generator():
    env = MetaWorldEnv(TASK, horizon=6, seed=8)
    expected = [env.reset()[STATE], env.reset()[STATE]]
    td = reset_with(env, 8)
    random_steps(env, td, 4)
    td = env.set_simulator_state(env.simulator_state())
    assert len(env.rollout(50, auto_reset=False, tensordict=td)) == 2
    assert torch.equal(env.reset()[STATE], expected[1])


def test_set_simulator_state_rejects_other_sizes(env):
    with pytest.raises(ValueError, match=r"box-close-v3 has shape \(81,\), found \(3,\)"):
        env.set_simulator_state(np.zeros(3))


def test_env_args_recreate_equal_environment():
    env = MetaWorldEnv(TASK, action_repeat=3, horizon=7, seed=1)
    args = env.env_args
    again = make_env(args["type"], args["env_name"], seed=1, **args["env_kwargs"])
    assert again.env_args == args
    assert torch.equal(again.reset()[STATE], env.reset()[STATE])


def test_serial_envs_differ_and_are_reproducible_with_seed():
    env = SerialEnv(2, partial(MetaWorldEnv, TASK, horizon=3))
    env.set_seed(0)
    first = env.rollout(4, break_when_any_done=False)
    assert first.shape == (2, 4)
    assert first[NEXT, TRUNCATED][:, 2].all() and not first[NEXT, DONE][:, 3].any()
    assert not torch.equal(first[STATE][0, 0], first[STATE][1, 0])
    env.set_seed(0)
    assert torch.equal(env.reset()[STATE], first[STATE][:, 0])


@pytest.mark.slow
def test_parallel_env_equals_serial_env():
    make = partial(make_env, "metaworld", TASK, horizon=3)
    action = torch.tensor([0.5, -0.5, 0.25, 1.0])
    results = []
    for kind in (SerialEnv, partial(ParallelEnv, mp_start_method="spawn", num_threads=1)):
        env = kind(2, make)
        try:
            env.set_seed(0)
            rollout = env.rollout(3, lambda td: td.set(ACTION, action.expand(2, 4)))
            results.append(rollout[NEXT, STATE].clone())
        finally:
            env.close()
    assert torch.equal(*results)


def test_collector_resets_at_episode_ends():
    env = MetaWorldEnv(TASK, horizon=4, seed=0)
    collector = Collector(env, env.rand_action, frames_per_batch=10, total_frames=10)
    (batch,) = list(collector)
    assert batch[NEXT, TRUNCATED].flatten().nonzero().flatten().tolist() == [3, 7]
    assert not torch.equal(batch[STATE][4], batch[NEXT, STATE][3])


def test_import_of_envs_imports_no_simulator():
    code = "import sys, ibrl_torchrl.envs; assert 'metaworld' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_metaworld_error_names_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "metaworld", None)
    with pytest.raises(UsageError, match=r"pip install 'ibrl_torchrl\[metaworld\]'"):
        MetaWorldEnv(TASK)
