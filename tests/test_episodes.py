"""Episodes: packing, stacked observations."""

import pytest
import torch
from support.parts import Countdown, episode
from tensordict import TensorDict

from ibrl_torchrl.episodes import (
    observation_keys,
    pack_episode,
    stack_frames,
    unpack_episode,
    unstack_frames,
)


def assert_equal(found, expected):
    assert found.batch_size == expected.batch_size
    assert {*found.keys(True, True)} == {*expected.keys(True, True)}
    for key, value in expected.items(True, True):
        assert torch.equal(found[key], value) and found[key].dtype == value.dtype, key


def images_and_states(length=6):
    """Episode of images and states, with a root entry that no observation has."""
    images = torch.randint(256, (length + 1, 3, 4, 4), dtype=torch.uint8)
    states = torch.randn(length + 1, 5)
    rest = episode(length, success=True)
    rest["next", "success"] = rest["next", "terminated"].clone()
    before = {"camera_image": images[:-1], "state": states[:-1], "proposal": torch.arange(length)}
    after = {"camera_image": images[1:], "state": states[1:]}
    results = rest["next"].exclude("state").to_dict()
    return TensorDict(
        {**before, "action": rest["action"], "next": {**after, **results}}, batch_size=[length]
    )


def test_every_entry_survives_packing():
    for expected in (images_and_states(), Countdown(4).rollout(4)):
        packed = pack_episode(expected)
        assert_equal(unpack_episode(packed), expected)
        for key in observation_keys(expected):
            assert len(packed[f"observation/{key}"]) == len(expected) + 1


@pytest.mark.parametrize(("frames", "states"), [(1, 1), (3, 1), (1, 2), (3, 4)])
def test_stacks_survive_packing_of_their_newest_observations(frames, states):
    expected = images_and_states()
    stack_frames(expected, frames, states)
    stacks = {"frame_stack": frames, "state_stack": states}
    packed = pack_episode(expected, ["camera_image", "state"], **stacks)
    assert packed["observation/camera_image"].shape == (7, 3, 4, 4)
    assert packed["observation/state"].shape == (7, 5)
    assert_equal(unpack_episode(packed, **stacks), expected)


def test_chosen_keys_alone_are_packed():
    packed = pack_episode(images_and_states(), ["state"])
    assert {*packed} == {
        *("observation/state", "root/action", "root/proposal", "next/reward", "next/done"),
        *("next/terminated", "next/truncated", "next/success"),
    }


def test_stacking_is_undone_by_unstacking():
    single = images_and_states()
    stacked = single.clone()
    stack_frames(stacked, 3, 2)
    assert stacked["camera_image"].shape == (6, 9, 4, 4) and stacked["state"].shape == (6, 10)
    assert_equal(unstack_frames(stacked, 3, 2), single)


def test_stacks_by_hand():
    """A stack of three: newest last, the first image repeated, zeros before the first state."""
    expected = images_and_states(3)
    images, states = expected["camera_image"].clone(), expected["state"].clone()
    stack_frames(expected, 3, 3)
    assert torch.equal(expected["camera_image"][0], images[[0, 0, 0]].flatten(0, 1))
    assert torch.equal(expected["camera_image"][1], images[[0, 0, 1]].flatten(0, 1))
    assert torch.equal(expected["next", "camera_image"][1], images[[0, 1, 2]].flatten(0, 1))
    assert torch.equal(expected["state"][1], torch.cat([torch.zeros(5), states[0], states[1]]))
    assert torch.equal(expected["next", "state"][1], states.flatten())
