"""Plan of the task Lift. Metres, radians, world frame."""

from __future__ import annotations

import numpy as np

from ibrl_torchrl.experts.robosuite.motion import (
    CLOSED,
    OPEN,
    UP,
    Motion,
    Poses,
    WaypointController,
    actuate_gripper,
)
from ibrl_torchrl.experts.robosuite.rotations import nearest_angle

HOVER_HEIGHT = (0.06, 0.10)  # range above the cube
HOVER_OFFSET = 0.015  # largest offset in x and y above the cube
GRASP_OFFSET = 0.006  # largest offset of the grasp from the cube's centre
LIFT_HEIGHT = 0.15
CLOSING_STEPS = 5


def lift_cube(poses: Poses, controller: WaypointController, rng: np.random.Generator) -> Motion:
    """Hover over the cube, descend, grasp and lift it.

    Args:
        poses: current poses.
        controller: controller of the end effector.
        rng: generator of the waypoints.
    """
    offset = rng.uniform(-HOVER_OFFSET, HOVER_OFFSET, 2)
    hover = np.array([*offset, rng.uniform(*HOVER_HEIGHT)])
    grasp = rng.uniform(-GRASP_OFFSET, GRASP_OFFSET, 3)
    # The four sides are equivalent: choose the one with the smallest rotation.
    yaw = nearest_angle(poses.object_yaw, poses.eef_yaw, np.pi / 2)
    poses = yield from controller.move(
        poses,
        lambda poses: (poses.object_pos + hover, yaw),
        OPEN,
        tolerance=(0.012, 0.012, 0.02),
        yaw_tolerance=0.15,
        max_steps=40,
    )
    poses = yield from controller.move(
        poses,
        lambda poses: (poses.object_pos + grasp, yaw),
        OPEN,
        tolerance=(0.008, 0.008, 0.012),
        yaw_tolerance=0.15,
        max_steps=25,
    )
    poses = yield from actuate_gripper(poses, CLOSED, CLOSING_STEPS)
    target = poses.eef_pos + LIFT_HEIGHT * UP
    return (
        yield from controller.move(
            poses,
            lambda poses: (target, yaw),
            CLOSED,
            tolerance=(0.02, 0.02, 0.02),
            max_steps=25,
        )
    )
