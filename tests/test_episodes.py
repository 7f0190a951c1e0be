"""Episodes: packed format, frame stacking."""

import pytest
import torch
from support.parts import Countdown, episode
from tensordict import TensorDict
from torchrl.envs import CatFrames

from ibrl_torchrl.episodes import (
    observation_keys,
    pack_episode,
    stack_frames,
    unpack_episode,
    unstack_frames,
)

STACKS = [(1, 1), (3, 1), (1, 2), (3, 4)]  # frames, states


def assert_equal(actual, expected):
    assert actual.batch_size == expected.batch_size
    assert {*actual.keys(True, True)} == {*expected.keys(True, True)}
    for key, value in expected.items(True, True):
        assert torch.equal(actual[key], value) and actual[key].dtype == value.dtype, key


def pixel_episode(length=6):
    """Episode of images and states, with a root entry that is no observation."""
    images = torch.randint(256, (length + 1, 3, 4, 4), dtype=torch.uint8)
    states = torch.randn(length + 1, 5)
    rest = episode(length, success=True)
    rest["next", "success"] = rest["next", "terminated"].clone()
    root = {"camera_image": images[:-1], "state": states[:-1], "proposal": torch.arange(length)}
    after = {"camera_image": images[1:], "state": states[1:]}
    outcomes = rest["next"].exclude("state").to_dict()
    return TensorDict(
        {**root, "action": rest["action"], "next": {**after, **outcomes}}, batch_size=[length]
    )


@pytest.mark.parametrize("length", [1, 4])
def test_pack_episode_keeps_every_entry(length):
    for expected in (pixel_episode(length), Countdown(length).rollout(length)):
        packed = pack_episode(expected)
        assert_equal(unpack_episode(packed), expected)
        for key in observation_keys(expected):
            assert len(packed[f"observation/{key}"]) == length + 1


def test_pack_episode_shares_no_memory_with_the_episode():
    original = pixel_episode()
    packed, expected = pack_episode(original), original.clone()
    for values in original.values(True, True):
        values.zero_()
    assert_equal(unpack_episode(packed), expected)


@pytest.mark.parametrize(("frames", "states"), STACKS)
def test_pack_episode_keeps_the_newest_observation_of_each_stack(frames, states):
    expected = pixel_episode()
    stack_frames(expected, frames, states)
    stacks = {"frame_stack": frames, "state_stack": states}
    packed = pack_episode(expected, ["camera_image", "state"], **stacks)
    assert packed["observation/camera_image"].shape == (7, 3, 4, 4)
    assert packed["observation/state"].shape == (7, 5)
    assert_equal(unpack_episode(packed, **stacks), expected)


def test_pack_episode_selects_observation_keys():
    packed = pack_episode(pixel_episode(), ["state"])
    assert {*packed} == {
        *("observation/state", "root/action", "root/proposal", "next/reward", "next/done"),
        *("next/terminated", "next/truncated", "next/success"),
    }


def test_unstack_frames_inverts_stack_frames():
    single = pixel_episode()
    stacked = single.clone()
    stack_frames(stacked, 3, 2)
    assert stacked["camera_image"].shape == (6, 9, 4, 4) and stacked["state"].shape == (6, 10)
    assert_equal(unstack_frames(stacked, 3, 2), single)


def test_stack_frames_repeats_the_first_image_and_pads_states_with_zeros():
    stacked = pixel_episode(3)
    images, states = stacked["camera_image"].clone(), stacked["state"].clone()
    stack_frames(stacked, 3, 3)  # the newest observation is the last
    assert torch.equal(stacked["camera_image"][0], images[[0, 0, 0]].flatten(0, 1))
    assert torch.equal(stacked["camera_image"][1], images[[0, 0, 1]].flatten(0, 1))
    assert torch.equal(stacked["next", "camera_image"][1], images[[0, 1, 2]].flatten(0, 1))
    assert torch.equal(stacked["state"][1], torch.cat([torch.zeros(5), states[0], states[1]]))
    assert torch.equal(stacked["next", "state"][1], states.flatten())


@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize(("frames", "states"), [(3, 2), (2, 4)])
def test_stack_frames_equals_catframes(frames, states, length):
    stacked = pixel_episode(length)
    expected = stacked.clone()
    expected.names = ["time"]
    images = ["camera_image", ("next", "camera_image")]
    expected = CatFrames(frames, -3, images, padding="same")(expected)
    expected = CatFrames(states, -1, ["state", ("next", "state")], padding="constant")(expected)
    stack_frames(stacked, frames, states)
    assert_equal(stacked, expected.select(*stacked.keys(True, True)))
