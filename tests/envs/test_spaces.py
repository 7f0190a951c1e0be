"""Spaces of environments, without the environments."""

import json

import pytest
import torch
from support.parts import Countdown
from torchrl.data import Bounded
from torchrl.envs import ActionScaling, CatFrames, Compose, TransformedEnv

from ibrl_torchrl.envs.spaces import Spaces


def scaled_env():
    """Environment of actions in [-2, 6] behind transforms to [-1, 1] and stacks of 3 states."""
    env = Countdown(5)
    env.action_spec = Bounded(-2.0, 6.0, shape=(1,))
    return TransformedEnv(env, Compose(ActionScaling(), CatFrames(3, -1, ["state"])))


def test_spaces_are_those_after_the_transforms():
    spaces = Spaces.of(scaled_env())
    assert spaces.observation_spec["state"].shape == (6,)
    assert spaces.observation_spec["success"].dtype == torch.bool
    assert (spaces.action_spec.space.low.item(), spaces.action_spec.space.high.item()) == (-1, 1)
    native = spaces.native_action_spec.space
    assert (native.low.item(), native.high.item()) == (-2, 6)
    assert spaces.state_parts == {}


def test_plain_values_hold_everything():
    spaces = Spaces.of(scaled_env())
    content = json.loads(json.dumps(spaces.as_dict()))
    restored = Spaces.from_dict(content)
    assert restored.as_dict() == spaces.as_dict() == content
    assert restored.action_spec == spaces.action_spec.clone()
    assert restored.observation_spec["success"] == spaces.observation_spec["success"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("action", {"low": [1.0], "high": [-1.0]}),
        ("action", {"low": [-1.0, -1.0], "high": [1.0, 1.0]}),
        ("native_action", {"low": -1.0, "high": 1.0}),
        ("observation", {"state": {"dtype": "complex64", "shape": [2]}}),
        ("observation", {"state": {"dtype": "float32", "shape": [-2]}}),
        ("observation", {"state": {"dtype": "uint8", "shape": [100_000, 100_000]}}),
        ("observation", {"state": {"shape": [2]}}),
        ("state_parts", {"hand": "three"}),
    ],
)
def test_damaged_values_are_refused(key, value):
    content = Spaces.of(scaled_env()).as_dict() | {key: value}
    with pytest.raises((KeyError, RuntimeError, TypeError, ValueError)):
        Spaces.from_dict(content)
