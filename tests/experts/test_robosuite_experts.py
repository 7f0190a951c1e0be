"""Scripted experts of robosuite tasks."""

import math

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torchrl.envs import InitTracker, TransformedEnv

from ibrl_torchrl.data.demos import record_demos
from ibrl_torchrl.envs import make_env
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.experts import scripted_expert
from ibrl_torchrl.experts.robosuite.motion import INITIAL_YAW
from ibrl_torchrl.experts.robosuite.rotations import (
    downward_orientation,
    nearest_angle,
    rotate,
    rotation_between,
    wrap_angle,
    yaw_of,
)
from ibrl_torchrl.experts.robosuite.square import choose_yaws
from ibrl_torchrl.keys import ACTION, IS_INIT, NEXT, STATE, SUCCESS

pytest.importorskip("robosuite")
pytestmark = pytest.mark.simulator

X, Y, Z = np.eye(3)
HALF = math.sqrt(0.5)
IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])
QUARTER_ABOUT_Z = np.array([0.0, 0.0, HALF, HALF])
QUARTER_ABOUT_X = np.array([HALF, 0.0, 0.0, HALF])


@pytest.fixture(scope="module")
def lift():
    """Environment of Lift, and the initial observation of an episode."""
    env = make_env("robosuite", "Lift", horizon=100, seed=0)
    return env, env.reset()


def actions(expert, states, starts=(0,)):
    """Actions at given states; episodes start at the steps ``starts``."""
    return torch.stack(
        [
            expert(TensorDict({STATE: state, IS_INIT: torch.tensor([t in starts])}))[ACTION]
            for t, state in enumerate(states)
        ]
    )


# Rotations


def test_rotate_by_90_degrees_about_z_maps_x_to_y():
    np.testing.assert_allclose(rotate(QUARTER_ABOUT_Z, X), Y, atol=1e-12)
    np.testing.assert_allclose(rotate(QUARTER_ABOUT_Z, Y), -X, atol=1e-12)
    np.testing.assert_allclose(rotate(QUARTER_ABOUT_Z, Z), Z, atol=1e-12)
    assert yaw_of(QUARTER_ABOUT_Z, X) == pytest.approx(math.pi / 2)


def test_rotation_between_returns_world_frame_rotation_vector():
    quarter = math.pi / 2
    vector = rotation_between(IDENTITY, QUARTER_ABOUT_Z)
    np.testing.assert_allclose(vector, [0, 0, quarter], atol=1e-12)
    np.testing.assert_allclose(rotation_between(QUARTER_ABOUT_Z, IDENTITY), -vector, atol=1e-12)
    # The first maps (x, y, z) to (x, z, -y), the second to (y, -x, z), so the relative rotation
    # maps x to y, z to -x and y to -z: 120 degrees about the invariant axis (-1, -1, 1).
    vector = rotation_between(QUARTER_ABOUT_X, QUARTER_ABOUT_Z)
    third = 2 * math.pi / 3 / math.sqrt(3)
    np.testing.assert_allclose(vector, [-third, -third, third], atol=1e-12)


def test_rotation_between_ignores_quaternion_sign():
    np.testing.assert_allclose(
        rotation_between(-IDENTITY, QUARTER_ABOUT_Z), [0, 0, math.pi / 2], atol=1e-12
    )
    assert not rotation_between(IDENTITY, -IDENTITY).any()
    half_turn = rotation_between(IDENTITY, np.array([1.0, 0.0, 0.0, 0.0]))
    np.testing.assert_allclose(abs(half_turn), [math.pi, 0, 0], atol=1e-12)


@pytest.mark.parametrize("yaw", [0.0, 1.0, math.pi / 2, -3.0])
def test_downward_orientation_has_z_down_and_y_at_yaw(yaw):
    quaternion = downward_orientation(yaw)
    assert np.linalg.norm(quaternion) == pytest.approx(1)
    np.testing.assert_allclose(rotate(quaternion, Z), -Z, atol=1e-12)
    np.testing.assert_allclose(rotate(quaternion, Y), [math.cos(yaw), math.sin(yaw), 0], atol=1e-12)


def test_nearest_angle_and_wrap_angle_add_multiples_of_period():
    assert nearest_angle(3.0, 0.0, 2.0) in (1.0, -1.0)
    assert nearest_angle(0.25, 10.0, 1.0) == pytest.approx(10.25)
    assert nearest_angle(0.25, -10.0, 4.0) == pytest.approx(-11.75)
    assert wrap_angle(4.0) == pytest.approx(4.0 - 2 * math.pi)


# Experts


@pytest.mark.parametrize("nut_yaw", np.linspace(-math.pi, math.pi, 13))
def test_choose_yaws_rotates_gripper_by_at_most_90_degrees(nut_yaw):
    grasp, final = choose_yaws(nut_yaw)
    placed = grasp + wrap_angle(final - nut_yaw)
    assert abs(math.cos(grasp - nut_yaw)) < 1e-9  # fingers perpendicular to the handle
    for rotation in (grasp - INITIAL_YAW, placed - INITIAL_YAW):
        assert abs(rotation) <= math.pi / 2 + 1e-9
    assert math.cos(final) < 0.5  # the handle does not point away from the robot


@pytest.mark.parametrize(
    "task, horizon, seeds",
    [("Lift", 100, (0, 1, 2)), ("PickPlaceCan", 200, (3, 4)), ("NutAssemblySquare", 300, (4, 5))],
)
def test_expert_solves_task(task, horizon, seeds):
    env = TransformedEnv(make_env("robosuite", task, horizon=horizon), InitTracker())
    expert = scripted_expert("robosuite", task, noise=0.05)
    for seed in seeds:
        env.set_seed(seed)
        episode = env.rollout(horizon, expert)
        assert episode[NEXT, SUCCESS][-1], seed
        assert episode[ACTION].dtype == torch.float32 and episode[ACTION].abs().max() <= 1
    env.close()


def test_record_demos_omits_is_init_and_is_reproducible(lift):
    env, _ = lift
    first, second = record_demos(env, scripted_expert("robosuite", "Lift"), 2)
    for episode in (first, second):
        assert episode[NEXT, SUCCESS][-1]
        assert not [key for key in episode.keys(True, True) if IS_INIT in key]
    again, _ = record_demos(env, scripted_expert("robosuite", "Lift"), 2)
    assert torch.equal(again[ACTION], first[ACTION])


def test_record_demos_accepts_environment_with_init_tracker():
    env = TransformedEnv(make_env("robosuite", "Lift", horizon=100), InitTracker())
    (episode,) = record_demos(env, scripted_expert("robosuite", "Lift"), 1)
    assert not [key for key in episode.keys(True, True) if IS_INIT in key]
    env.close()


def test_expert_repeats_plan_after_failed_grasp(lift):
    """With a constant state the cube is never lifted."""
    _, start = lift
    expert = scripted_expert("robosuite", "Lift")
    gripper = actions(expert, [start[STATE]] * 300)[:, -1]
    closing = ((gripper[1:] > 0) & (gripper[:-1] < 0)).sum()
    assert closing >= 2


def test_expert_waypoints_and_noise_depend_on_seed_alone(lift):
    _, start = lift
    states = [start[STATE]] * 60
    runs = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)
        runs.append(actions(scripted_expert("robosuite", "Lift", 0.1, seed=4), states))
    assert torch.equal(*runs)
    for noise in (0.0, 0.1):
        one, other = (
            actions(scripted_expert("robosuite", "Lift", noise, seed=seed), states)
            for seed in (4, 5)
        )
        assert not torch.equal(one, other)


def test_expert_noise_has_given_standard_deviation(lift):
    _, start = lift
    # First actions of an episode, whose roll is deterministic without noise.
    states, starts = [start[STATE]] * 2000, range(2000)
    roll = actions(scripted_expert("robosuite", "Lift", 0.1), states, starts)[:, 3]
    assert abs(roll.std().item() - 0.1) < 0.01


def test_expert_restarts_plan_at_is_init(lift):
    _, start = lift
    expert = scripted_expert("robosuite", "Lift")
    # With a constant state it hovers for 40 steps, descends for 25 and closes for 30.
    gripper = actions(expert, [start[STATE]] * 120, starts=(0, 80))[:, -1]
    assert gripper[:65].eq(-1).all() and gripper[65:80].eq(1).all()
    assert gripper[80:].eq(-1).all()


def test_expert_rejects_missing_is_init_and_other_shapes(lift):
    _, start = lift
    expert = scripted_expert("robosuite", "Lift")
    with pytest.raises(ValueError, match=r"'is_init' is missing.*InitTracker"):
        expert(start.clone())
    batch = start.clone().set(IS_INIT, torch.tensor([True])).expand(2)
    with pytest.raises(ValueError, match=r"shape \(19,\); found \(2, 19\)"):
        expert(batch.clone())
    with pytest.raises(ValueError, match=r"PickPlaceCan .* shape \(23,\); found \(19,\)"):
        scripted_expert("robosuite", "PickPlaceCan")(batch[0].clone())


def test_scripted_expert_rejects_unknown_names_and_negative_noise():
    with pytest.raises(UsageError, match="'PickPlaceCann'; did you mean PickPlaceCan") as error:
        scripted_expert("robosuite", "PickPlaceCann")
    assert "robosuite task with a scripted expert" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="known are Lift, NutAssemblySquare, PickPlaceCan"):
        scripted_expert("robosuite", "Door")
    with pytest.raises(UsageError, match="'atari'; known are metaworld, robosuite"):
        scripted_expert("atari", "pong")
    with pytest.raises(ValueError, match="noise must not be negative, found -1"):
        scripted_expert("robosuite", "Lift", -1)
