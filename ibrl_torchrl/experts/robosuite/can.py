"""Plan of the task PickPlaceCan. Metres, radians, world frame."""

from __future__ import annotations

import numpy as np

from ibrl_torchrl.experts.robosuite.motion import (
    CLOSED,
    INITIAL_YAW,
    OPEN,
    UP,
    Motion,
    Poses,
    WaypointController,
    actuate_gripper,
)

HOVER_HEIGHT = (0.10, 0.14)  # range above the can
HOVER_OFFSET = 0.02  # largest offset in x and y above the can
GRASP_HEIGHT = (0.005, 0.020)  # range above the can's centre
YAW_RANGE = 0.2  # largest deviation of the grasp's yaw from the initial yaw; the can is round
LIFT_HEIGHT = 1.04  # heights of the end effector
CARRY_HEIGHT = (1.06, 1.10)
RELEASE_HEIGHT = 0.93
# The bin's centre is at (0.198, 0.40), where the arm is stretched so far that it stalls.
PLACE_POSITION = np.array([0.19, 0.36])
PLACE_OFFSET = 0.015  # largest deviation in x and y
RETREAT_HEIGHT = 0.15  # above the release
CLOSING_STEPS, OPENING_STEPS = 6, 2


def place_can(poses: Poses, controller: WaypointController, rng: np.random.Generator) -> Motion:
    """Grasp the can, carry it over the rim of its bin and release it.

    Args:
        poses: current poses.
        controller: controller of the end effector.
        rng: generator of the waypoints.
    """

    def is_lost(poses: Poses) -> bool:
        """Whether the can has slipped from the gripper."""
        return not poses.is_grasped(poses.object_pos)

    offset = rng.uniform(-HOVER_OFFSET, HOVER_OFFSET, 2)
    hover = np.array([*offset, rng.uniform(*HOVER_HEIGHT)])
    grasp = np.array([0.0, 0.0, rng.uniform(*GRASP_HEIGHT)])
    yaw = INITIAL_YAW + rng.uniform(-YAW_RANGE, YAW_RANGE)
    place = PLACE_POSITION + rng.uniform(-PLACE_OFFSET, PLACE_OFFSET, 2)
    carry_height = rng.uniform(*CARRY_HEIGHT)
    poses = yield from controller.move(
        poses,
        lambda poses: (poses.object_pos + hover, yaw),
        OPEN,
        tolerance=(0.015, 0.015, 0.03),
        yaw_tolerance=0.2,
        max_steps=50,
        integral=True,
    )
    poses = yield from controller.move(
        poses,
        lambda poses: (poses.object_pos + grasp, yaw),
        OPEN,
        tolerance=(0.01, 0.01, 0.012),
        max_steps=40,
        integral=True,
    )
    poses = yield from actuate_gripper(poses, CLOSED, CLOSING_STEPS)
    lifted = np.array([*poses.eef_pos[:2], LIFT_HEIGHT])
    poses = yield from controller.move(
        poses, lambda poses: (lifted, yaw), CLOSED, tolerance=(0.05, 0.05, 0.03), max_steps=40
    )
    # With a free yaw the arm reaches farther; while it descends it may still be a little short.
    above_bin, in_bin = np.array([*place, carry_height]), np.array([*place, RELEASE_HEIGHT])
    poses = yield from controller.move(
        poses,
        lambda poses: (above_bin, poses.eef_yaw),
        CLOSED,
        tolerance=(0.03, 0.03, 0.02),
        max_steps=100,
        stop=is_lost,
    )
    poses = yield from controller.move(
        poses,
        lambda poses: (in_bin, poses.eef_yaw),
        CLOSED,
        tolerance=(0.05, 0.05, 0.02),
        max_steps=25,
        stop=is_lost,
    )
    if is_lost(poses):
        return poses
    poses = yield from actuate_gripper(poses, OPEN, OPENING_STEPS)
    retreat = poses.eef_pos + RETREAT_HEIGHT * UP
    return (
        yield from controller.move(
            poses,
            lambda poses: (retreat, poses.eef_yaw),
            OPEN,
            tolerance=(0.02, 0.02, 0.02),
            max_steps=20,
        )
    )
