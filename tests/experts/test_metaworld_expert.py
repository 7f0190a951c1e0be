"""Scripted experts of Meta-World tasks."""

import pytest
import torch
from tensordict import TensorDict

from ibrl_torchrl.envs import make_env
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.experts import scripted_expert
from ibrl_torchrl.keys import ACTION, NEXT, STATE, SUCCESS

pytest.importorskip("metaworld")
pytestmark = pytest.mark.simulator


@pytest.fixture(scope="module")
def states() -> torch.Tensor:
    """Initial states of six episodes, [6, 39]."""
    env = make_env("metaworld", "box-close", seed=0)
    return torch.stack([env.reset()[STATE] for _ in range(6)])


@pytest.mark.parametrize("task", ["box-close", "assembly", "coffee-push-v3"])
def test_expert_solves_task(task):
    env = make_env("metaworld", task, seed=0)
    expert = scripted_expert("metaworld", task)
    for _ in range(2):
        assert env.rollout(100, expert)[NEXT, SUCCESS][-1]


def test_scripted_expert_supports_all_tasks():
    from metaworld import ALL_V3_ENVIRONMENTS

    for task in ALL_V3_ENVIRONMENTS:
        scripted_expert("metaworld", task)


def test_expert_batch_equals_single_states_within_bounds(states):
    expert = scripted_expert("metaworld", "box-close")
    batch = expert(TensorDict({STATE: states.view(2, 3, 39)}, [2, 3]))[ACTION]
    assert batch.shape == (2, 3, 4) and batch.dtype == torch.float32
    assert batch.abs().max() <= 1
    rows = [expert(TensorDict({STATE: state}))[ACTION] for state in states]
    assert torch.equal(batch.flatten(0, 1), torch.stack(rows))


def test_expert_noise_depends_on_seed_and_has_given_standard_deviation(states):
    batch = TensorDict({STATE: states[:1].expand(2000, -1)}, [2000])
    clean = scripted_expert("metaworld", "box-close")(batch.copy())[ACTION]
    noisy = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        expert = scripted_expert("metaworld", "box-close", noise=0.1, seed=4)
        noisy.append(expert(batch.copy())[ACTION])
    assert torch.equal(*noisy)
    other = scripted_expert("metaworld", "box-close", noise=0.1, seed=5)(batch.copy())[ACTION]
    assert not torch.equal(noisy[0], other)
    effort = (noisy[0] - clean)[:, 3]  # 0.5 without noise, so clipping has no effect
    assert abs(effort.std().item() - 0.1) < 0.01
    assert noisy[0].abs().max() <= 1


def test_scripted_expert_rejects_unknown_names_and_negative_noise():
    with pytest.raises(UsageError, match="did you mean box-close-v3"):
        scripted_expert("metaworld", "box-clos")
    with pytest.raises(UsageError, match="'atari'; known are metaworld, robosuite"):
        scripted_expert("atari", "pong")
    with pytest.raises(ValueError, match="noise must not be negative, found -1"):
        scripted_expert("metaworld", "box-close", noise=-1)
