"""Normalisation of observations: entries that networks read, and their statistics."""

from dataclasses import replace

import pytest
import torch
from tensordict import TensorDict

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.normalization import (
    identity_normalizers,
    observation_normalizers,
    with_action,
)
from ibrl_torchrl.config.task import TaskConfig
from ibrl_torchrl.errors import UsageError

pytestmark = pytest.mark.simulator

METAWORLD = TaskConfig(
    suite="metaworld",
    name="box-close",
    action_repeat=2,
    horizon=5,
    state_stack=1,
    min_std=0.1,
    num_init_states=0,
)


def episode(size, steps=4):
    generator = torch.Generator().manual_seed(0)
    return TensorDict({"state": torch.randn(steps, size, generator=generator)}, batch_size=[steps])


def test_normalizers_select_named_parts_of_each_stacked_state():
    pytest.importorskip("metaworld")
    task = replace(METAWORLD, state_parts=["gripper_opening", "goal_pos"], state_stack=2)
    env = build_env(task)
    demo = episode(2 * 39)
    entries = [3, 36, 37, 38, 39 + 3, 39 + 36, 39 + 37, 39 + 38]
    normalizers = observation_normalizers(task, env, [demo])
    expected = demo["state"][:, entries]
    assert torch.allclose(normalizers["state"].mean, expected.mean(0))
    normalized = normalizers["state"](demo["state"])
    assert normalized.shape == (4, 8)
    assert torch.allclose(normalized.std(0, correction=0), torch.ones(8))
    identity = identity_normalizers(task, env)["state"]
    assert torch.equal(identity(demo["state"]), expected)
    identity.load_state_dict(normalizers["state"].state_dict())
    assert torch.equal(identity(demo["state"]), normalized)


def test_initial_states_bound_standard_deviations_from_below():
    pytest.importorskip("robosuite")
    task = TaskConfig(
        suite="robosuite",
        name="Lift",
        action_repeat=1,
        horizon=5,
        state_stack=3,
        min_std=0.05,
        num_init_states=0,
    )
    env = build_env(task)
    still = TensorDict({"state": torch.zeros(3, 3 * 19)}, batch_size=[3])  # one state, no motion
    torch.manual_seed(3)
    before = torch.get_rng_state()
    std = observation_normalizers(replace(task, num_init_states=40), env, [still])["state"].std
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(std, std[:19].repeat(3))  # the zeros before a start do not count
    cube_yaw = std[14:16]  # z and w of the cube's quaternion: its yaw is uniform
    assert (cube_yaw > 0.25).all() and (cube_yaw < 1).all()
    assert (std[7:9] == 0.05).all()  # initial positions of the fingers do not vary
    assert (observation_normalizers(task, env, [still])["state"].std == 0.05).all()


def test_relative_positions_follow_the_entries_of_each_stacked_state():
    pytest.importorskip("metaworld")
    task = replace(
        METAWORLD,
        state_parts=["gripper_opening"],
        relative_positions=["hand_pos", "object1_pos", "goal_pos"],
        state_stack=2,
    )
    env = build_env(task)
    demo = episode(2 * 39)
    normalize = observation_normalizers(task, env, [demo])["state"]
    state = demo["state"]
    hand, object1, goal = (
        torch.stack([state[:, i : i + 3], state[:, 39 + i : 39 + i + 3]], 1) for i in (0, 4, 36)
    )
    relative = [(hand - object1), (hand - goal), (object1 - goal)]
    expected = torch.cat([state[:, [3, 39 + 3]], *(pair.flatten(1) for pair in relative)], -1)
    assert torch.equal(identity_normalizers(task, env)["state"](state), expected)
    assert torch.allclose(normalize.mean, expected.mean(0), atol=1e-6)
    assert torch.allclose(normalize(state).std(0, correction=0), torch.ones(2 + 18), atol=1e-6)

    joint = with_action(normalize, 2 * 39, 2)(torch.cat([state, torch.full((4, 2), 0.7)], -1))
    entries, action, differences = joint.split([2, 2, 18], -1)
    assert torch.equal(torch.cat([entries, differences], -1), normalize(state))
    assert (action == 0.7).all()


def test_relative_positions_have_a_lower_bound_of_their_own():
    pytest.importorskip("metaworld")
    task = replace(METAWORLD, relative_positions=["hand_pos", "goal_pos"], min_std_relative=0.02)
    still = TensorDict({"state": torch.ones(3, 39)}, batch_size=[3])
    std = observation_normalizers(task, build_env(task), [still])["state"].std
    assert torch.equal(std, torch.tensor([0.1] * 39 + [0.02] * 3))


def test_differences_from_an_absent_object_vanish():
    pytest.importorskip("metaworld")
    parts = ["hand_pos", "object2_pos", "goal_pos"]
    task = replace(METAWORLD, relative_positions=parts, state_parts=["gripper_opening"])
    env = build_env(task)
    demo = env.rollout(5)  # of box-close, which has one object
    assert not demo["state"][:, 11:14].any()
    normalize = observation_normalizers(task, env, [demo])["state"]
    hand_object, hand_goal, object_goal = normalize(demo["state"])[:, 1:].split(3, -1)
    for vanished in (hand_object, object_goal):
        assert vanished.abs().max() < 1e-20
    assert hand_goal.abs().sum(1).min() > 1e-3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"state_parts": ["goal"]}, "part of the state of box-close 'goal'; did you mean"),
        ({"relative_positions": ["hand"]}, "part of the state of box-close 'hand'; did you mean"),
        (
            {"relative_positions": ["hand_pos", "object1_quat"]},
            r"parts of one size, not of {'hand_pos': 3, 'object1_quat': 4}",
        ),
    ],
)
def test_unknown_or_unfit_state_parts_are_refused(settings, message):
    pytest.importorskip("metaworld")
    with pytest.raises(UsageError, match=message):
        build_env(replace(METAWORLD, **settings))
