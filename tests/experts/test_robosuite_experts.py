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
from ibrl_torchrl.experts.robosuite.hand import START_YAW
from ibrl_torchrl.experts.robosuite.rotations import (
    downward_orientation,
    nearest_angle,
    rotate,
    rotation_between,
    wrap_angle,
    yaw_of,
)
from ibrl_torchrl.experts.robosuite.square import _choose_yaws
from ibrl_torchrl.keys import ACTION, IS_INIT, NEXT, STATE, SUCCESS

pytest.importorskip("robosuite")

X, Y, Z = np.eye(3)
HALF = math.sqrt(0.5)
NO_TURN = np.array([0.0, 0.0, 0.0, 1.0])
QUARTER_ABOUT_Z = np.array([0.0, 0.0, HALF, HALF])
QUARTER_ABOUT_X = np.array([HALF, 0.0, 0.0, HALF])


@pytest.fixture(scope="module")
def lift():
    """Lift, and the start of one of its episodes."""
    env = make_env("robosuite", "Lift", horizon=100, seed=0)
    return env, env.reset()


def actions(expert, states, starts=(0,)):
    """The expert's actions at states that do not depend on them; episodes begin at ``starts``."""
    return torch.stack(
        [
            expert(TensorDict({STATE: state, IS_INIT: torch.tensor([t in starts])}))[ACTION]
            for t, state in enumerate(states)
        ]
    )


# Rotations, by hand


def test_a_quarter_turn_about_z_takes_x_to_y():
    np.testing.assert_allclose(rotate(QUARTER_ABOUT_Z, X), Y, atol=1e-12)
    np.testing.assert_allclose(rotate(QUARTER_ABOUT_Z, Y), -X, atol=1e-12)
    np.testing.assert_allclose(rotate(QUARTER_ABOUT_Z, Z), Z, atol=1e-12)
    assert yaw_of(QUARTER_ABOUT_Z, X) == pytest.approx(math.pi / 2)


def test_the_way_between_two_orientations_is_a_rotation_vector_of_the_world():
    quarter = math.pi / 2
    way = rotation_between(NO_TURN, QUARTER_ABOUT_Z)
    np.testing.assert_allclose(way, [0, 0, quarter], atol=1e-12)
    np.testing.assert_allclose(rotation_between(QUARTER_ABOUT_Z, NO_TURN), -way, atol=1e-12)
    # The one takes (x, y, z) to (x, z, -y), the other to (y, -x, z), so the way between takes x to
    # y, z to -x and y to -z: a third of a turn about (-1, -1, 1), the axis that it leaves alone.
    way = rotation_between(QUARTER_ABOUT_X, QUARTER_ABOUT_Z)
    third = 2 * math.pi / 3 / math.sqrt(3)
    np.testing.assert_allclose(way, [-third, -third, third], atol=1e-12)


def test_both_signs_of_a_quaternion_are_the_same_orientation():
    np.testing.assert_allclose(
        rotation_between(-NO_TURN, QUARTER_ABOUT_Z), [0, 0, math.pi / 2], atol=1e-12
    )
    assert not rotation_between(NO_TURN, -NO_TURN).any()
    half_turn = rotation_between(NO_TURN, np.array([1.0, 0.0, 0.0, 0.0]))
    np.testing.assert_allclose(abs(half_turn), [math.pi, 0, 0], atol=1e-12)


@pytest.mark.parametrize("yaw", [0.0, 1.0, math.pi / 2, -3.0])
def test_pointing_down(yaw):
    quaternion = downward_orientation(yaw)
    assert np.linalg.norm(quaternion) == pytest.approx(1)
    np.testing.assert_allclose(rotate(quaternion, Z), -Z, atol=1e-12)
    np.testing.assert_allclose(rotate(quaternion, Y), [math.cos(yaw), math.sin(yaw), 0], atol=1e-12)


def test_the_nearest_of_equal_angles():
    assert nearest_angle(3.0, 0.0, 2.0) in (1.0, -1.0)
    assert nearest_angle(0.25, 10.0, 1.0) == pytest.approx(10.25)
    assert nearest_angle(0.25, -10.0, 4.0) == pytest.approx(-11.75)
    assert wrap_angle(4.0) == pytest.approx(4.0 - 2 * math.pi)


# Experts


@pytest.mark.parametrize("nut_yaw", np.linspace(-math.pi, math.pi, 13))
def test_a_nut_never_needs_more_than_a_right_angle(nut_yaw):
    grasp, final = _choose_yaws(nut_yaw)
    placed = grasp + wrap_angle(final - nut_yaw)
    assert abs(math.cos(grasp - nut_yaw)) < 1e-9  # fingers across the handle
    for turned in (grasp - START_YAW, placed - START_YAW):
        assert abs(turned) <= math.pi / 2 + 1e-9
    assert math.cos(final) < 0.5  # the handle is not beyond the peg


@pytest.mark.parametrize(
    "task, horizon, seeds",
    [("Lift", 100, (0, 1, 2)), ("PickPlaceCan", 200, (3, 4)), ("NutAssemblySquare", 300, (4, 5))],
)
def test_experts_solve_their_tasks(task, horizon, seeds):
    env = TransformedEnv(make_env("robosuite", task, horizon=horizon), InitTracker())
    expert = scripted_expert("robosuite", task, noise=0.05)
    for seed in seeds:
        env.set_seed(seed)
        episode = env.rollout(horizon, expert)
        assert episode[NEXT, SUCCESS][-1], seed
        assert episode[ACTION].dtype == torch.float32 and episode[ACTION].abs().max() <= 1
    env.close()


def test_recorded_episodes_tell_nothing_of_their_beginning(lift):
    env, _ = lift
    first, second = record_demos(env, scripted_expert("robosuite", "Lift"), 2)
    for episode in (first, second):
        assert episode[NEXT, SUCCESS][-1]
        assert not [key for key in episode.keys(True, True) if IS_INIT in key]
    again, _ = record_demos(env, scripted_expert("robosuite", "Lift"), 2)
    assert torch.equal(again[ACTION], first[ACTION])


def test_an_environment_that_tells_of_beginnings_itself_can_be_recorded():
    env = TransformedEnv(make_env("robosuite", "Lift", horizon=100), InitTracker())
    (episode,) = record_demos(env, scripted_expert("robosuite", "Lift"), 1)
    assert not [key for key in episode.keys(True, True) if IS_INIT in key]
    env.close()


def test_it_regrasps_what_it_has_lost(lift):
    """As if the cube lay where it was, whatever the hand does: the same state again and again."""
    _, start = lift
    expert = scripted_expert("robosuite", "Lift")
    gripper = actions(expert, [start[STATE]] * 300)[:, -1]
    closing = ((gripper[1:] > 0) & (gripper[:-1] < 0)).sum()
    assert closing >= 2


def test_variety_and_noise_come_from_the_seed_alone(lift):
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


def test_noise_has_the_asked_size(lift):
    _, start = lift
    # The first actions, again and again: those of a plan that no noise has touched.
    states, starts = [start[STATE]] * 2000, range(2000)
    roll = actions(scripted_expert("robosuite", "Lift", 0.1), states, starts)[:, 3]
    assert abs(roll.std().item() - 0.1) < 0.01


def test_a_new_episode_starts_afresh(lift):
    _, start = lift
    expert = scripted_expert("robosuite", "Lift")
    # It hovers for 40 steps, descends for 25 and closes its hand for 30, if nothing ever moves.
    gripper = actions(expert, [start[STATE]] * 120, starts=(0, 80))[:, -1]
    assert gripper[:65].eq(-1).all() and gripper[65:80].eq(1).all()
    assert gripper[80:].eq(-1).all()


def test_one_unbatched_episode_with_its_beginning_is_needed(lift):
    _, start = lift
    expert = scripted_expert("robosuite", "Lift")
    with pytest.raises(ValueError, match=r"'is_init' is missing.*InitTracker"):
        expert(start.clone())
    batch = start.clone().set(IS_INIT, torch.tensor([True])).expand(2)
    with pytest.raises(ValueError, match=r"shape \(19,\); found \(2, 19\)"):
        expert(batch.clone())
    with pytest.raises(ValueError, match=r"PickPlaceCan .* shape \(23,\); found \(19,\)"):
        scripted_expert("robosuite", "PickPlaceCan")(batch[0].clone())


def test_unknown_names_are_answered():
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
