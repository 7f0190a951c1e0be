"""Demonstrations of any TorchRL environment: its bounds, its success, no simulator states."""

import h5py
import numpy as np
import pytest
import torch
from torchrl.envs import ActionScaling, GymEnv, RenameTransform, TransformedEnv

from ibrl_torchrl.data.demos import (
    check_demos_match,
    load_demos,
    match_native_actions,
    record_demos,
    save_demos,
)
from ibrl_torchrl.data.demos.describe import describe_demos
from ibrl_torchrl.envs.env_args import parse_env_args
from ibrl_torchrl.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore")


def torque(td):
    """Torque of 1.5, outside of [-1, 1]."""
    return td.set("action", torch.full((1,), 1.5))


def is_fast(step):
    return step["next", "observation"][2].abs() > 1.5


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory):
    """A file of two episodes of Gymnasium's Pendulum, as TorchRL makes it."""
    path = tmp_path_factory.mktemp("demos") / "pendulum.hdf5"
    env = GymEnv("Pendulum-v1")
    save_demos(path, record_demos(env, torque, 2, success=is_fast), env)
    return path


def test_nested_observations_are_named(tmp_path):
    nested = RenameTransform(["observation"], [("robot", "pos")])
    env = TransformedEnv(GymEnv("Pendulum-v1"), nested)
    demos = record_demos(env, torque, 1, success=lambda step: torch.tensor(True))
    with pytest.raises(UsageError, match=r"the observation 'robot' is nested.*RenameTransform"):
        save_demos(tmp_path / "a.hdf5", demos, env)
    assert not [*tmp_path.iterdir()]


def test_an_environment_that_observes_no_success_is_told_it(pendulum):
    demos = load_demos(pendulum)
    assert demos.env_args == {
        "env_name": "GymEnv",
        "type": "torchrl",
        "action_bounds": {"low": [-2.0], "high": [2.0]},
    }
    for episode in demos.episodes:
        velocity = episode["next", "observation"][:, 2].abs()
        assert velocity[-1] > 1.5 and (velocity[:-1] <= 1.5).all()
        assert episode["next", "reward"].squeeze(-1).tolist() == [0] * (len(episode) - 1) + [1]
        assert episode["next", "terminated"][-1] and (episode["action"] == 1.5).all()
    assert not describe_demos(pendulum).has_states


def test_without_it_the_remedy_is_named():
    with pytest.raises(UsageError, match=r"GymEnv has no observation success; .* success=, of a"):
        next(record_demos(GymEnv("Pendulum-v1"), torque, 1))


def test_bounds_of_actions_are_compared(pendulum):
    demos = load_demos(pendulum)
    check_demos_match(demos, GymEnv("Pendulum-v1"))
    scaled = TransformedEnv(GymEnv("Pendulum-v1"), ActionScaling())
    with pytest.raises(UsageError, match=r"action bounds \[\[-2.0\], \[2.0\]\], the environment"):
        check_demos_match(demos, scaled)


def test_actions_in_the_bounds_below_a_scaling_are_mapped(pendulum):
    scaled = TransformedEnv(GymEnv("Pendulum-v1"), ActionScaling())
    demos = match_native_actions(load_demos(pendulum), scaled)
    check_demos_match(demos, scaled)
    assert all((episode["action"] == 0.75).all() for episode in demos.episodes)  # 1.5 of 2
    native = load_demos(pendulum)
    assert match_native_actions(native, GymEnv("Pendulum-v1")).episodes[0]["action"][0] == 1.5
    other = TransformedEnv(GymEnv("MountainCarContinuous-v0"), ActionScaling())
    assert match_native_actions(native, other) is native


def test_bounds_that_a_file_does_not_state_are_given(pendulum, tmp_path):
    path = tmp_path / "foreign.hdf5"
    path.write_bytes(pendulum.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["data"].attrs["env_args"]
    with pytest.raises(UsageError, match=r"actions must lie in \[-1, 1\], found 1.5 at step 0"):
        load_demos(path)
    bounds = np.float32([-2]), np.float32([2])
    demos = load_demos(path, action_bounds=bounds)
    assert demos.env_args["action_bounds"] == {"low": [-2.0], "high": [2.0]}
    scaled = TransformedEnv(GymEnv("Pendulum-v1"), ActionScaling())
    assert (match_native_actions(demos, scaled).episodes[0]["action"] == 0.75).all()


def test_actions_beyond_the_bounds_are_refused(pendulum, tmp_path):
    path = tmp_path / "beyond.hdf5"
    path.write_bytes(pendulum.read_bytes())
    with h5py.File(path, "r+") as file:
        file["data/demo_1/actions"][0] = 2.5
    with pytest.raises(UsageError, match=r"actions must lie in \[-2, 2\], found 2.5 at step 0"):
        load_demos(path)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ('{"low": [1], "high": [0]}', "must be as many, low < high"),
        ('{"low": [-1, -1], "high": [1]}', "must be as many, low < high"),
        ('{"low": [-1], "high": ["x"]}', "must be finite numbers"),
        ('{"low": -1, "high": 1}', "must be two lists, low and high"),
        ('{"low": [-1e999], "high": [1]}', "must be finite numbers"),
        ("[1]", "has action_bounds of type list"),
    ],
)
def test_bounds_of_a_foreign_file_are_checked(bounds, message):
    with pytest.raises(ValueError, match=message):
        parse_env_args(f'{{"action_bounds": {bounds}}}')


def test_bounds_of_another_size_are_refused(pendulum, tmp_path):
    path = tmp_path / "size.hdf5"
    path.write_bytes(pendulum.read_bytes())
    with h5py.File(path, "r+") as file:
        file["data"].attrs["env_args"] = '{"action_bounds": {"low": [-2, -2], "high": [2, 2]}}'
    with pytest.raises(UsageError, match="actions have size 1, their action_bounds 2; fix it"):
        load_demos(path)
