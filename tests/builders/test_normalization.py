"""What networks see of an observation, and how it is scaled."""

from dataclasses import replace

import pytest
import torch
from tensordict import TensorDict

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.normalization import observation_scales, placeholder_scales
from ibrl_torchrl.config.task import TaskConfig
from ibrl_torchrl.errors import UsageError

METAWORLD = TaskConfig("metaworld", "box-close", action_repeat=2, horizon=5)


def episode(size, steps=4):
    generator = torch.Generator().manual_seed(0)
    return TensorDict({"state": torch.randn(steps, size, generator=generator)}, batch_size=[steps])


def test_parts_of_a_state_are_chosen_by_name_in_every_stacked_state():
    task = replace(METAWORLD, state_parts=["gripper_opening", "goal_pos"], state_stack=2)
    env = build_env(task)
    demo = episode(2 * 39)
    entries = [3, 36, 37, 38, 39 + 3, 39 + 36, 39 + 37, 39 + 38]
    scales = observation_scales(task, env, [demo])
    expected = demo["state"][:, entries]
    assert torch.allclose(scales["state"].mean, expected.mean(0))
    scaled = scales["state"](demo["state"])
    assert scaled.shape == (4, 8)
    assert torch.allclose(scaled.std(0, correction=0), torch.ones(8))
    placeholder = placeholder_scales(task, env)["state"]
    assert torch.equal(placeholder(demo["state"]), expected)
    placeholder.load_state_dict(scales["state"].state_dict())
    assert torch.equal(placeholder(demo["state"]), scaled)


def test_what_start_states_vary_is_not_magnified():
    pytest.importorskip("robosuite")
    task = TaskConfig("robosuite", "Lift", action_repeat=1, horizon=5, state_stack=3, min_std=0.05)
    env = build_env(task)
    still = TensorDict({"state": torch.zeros(3, 3 * 19)}, batch_size=[3])  # one start, no motion
    torch.manual_seed(3)
    before = torch.get_rng_state()
    spread = observation_scales(replace(task, start_states=40), env, [still])["state"].std
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(spread, spread[:19].repeat(3))  # the zeros before a start do not count
    cube_yaw = spread[14:16]  # z and w of the cube's quaternion: it lies turned in any way
    assert (cube_yaw > 0.25).all() and (cube_yaw < 1).all()
    assert (spread[7:9] == 0.05).all()  # fingers always start the same
    assert (observation_scales(task, env, [still])["state"].std == 0.05).all()


def test_unknown_parts_are_named():
    with pytest.raises(UsageError, match="part of the state of box-close 'goal'; did you mean"):
        build_env(replace(METAWORLD, state_parts=["goal"]))
