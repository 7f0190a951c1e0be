"""Plan of the task NutAssemblySquare. Metres, radians, world frame."""

from __future__ import annotations

from itertools import product

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
from ibrl_torchrl.experts.robosuite.rotations import nearest_angle, wrap_angle

# Range of the grasp on the handle, along the nut's x axis. The handle ends at 0.079; an open finger
# extends 0.01 to either side, and collides with the nut's ring, which starts at 0.044.
GRASP_POSITION = (0.057, 0.067)
HOVER_HEIGHT = (0.07, 0.10)  # range above the handle
GRASP_DEPTH = 0.008  # of the end effector below the handle's centre
GRASP_OFFSET = 0.006  # largest horizontal error for a grasp
FUNNEL_SLOPE = 3.0  # height per horizontal error beyond that, during the descent
SWING_LIMIT = 0.3  # largest rotation of the nut in the gripper
CARRY_HEIGHT = (1.01, 1.04)  # range of the end effector's height
PEG_POSITION = np.array([0.23, 0.10])
PUSH_HEIGHT = 0.80  # target height of the end effector above the peg
PLACED_HEIGHT = 0.875  # of the nut, below which it is on the peg
# Yaws of the nut on the peg. At 0 the handle would point away from the robot, out of reach.
FINAL_YAWS = (np.pi, np.pi / 2, -np.pi / 2)
CLOSING_STEPS, OPENING_STEPS = 9, 4  # with fewer closing steps the handle slips


def place_nut(poses: Poses, controller: WaypointController, rng: np.random.Generator) -> Motion:
    """Grasp the nut by its handle, carry it over the peg and push it down.

    Args:
        poses: current poses.
        controller: controller of the end effector.
        rng: generator of the waypoints.
    """
    handle = np.array([rng.uniform(*GRASP_POSITION), 0.0, 0.0])
    hover_height = rng.uniform(*HOVER_HEIGHT)
    carry_height = rng.uniform(*CARRY_HEIGHT)
    grasp_yaw, final_yaw = choose_yaws(poses.object_yaw)

    def above_handle(poses: Poses, height: float) -> tuple[np.ndarray, float]:
        """Waypoint above the handle, with the fingers across it."""
        yaw = nearest_angle(poses.object_yaw + np.pi / 2, grasp_yaw, np.pi)
        return poses.object_to_world(handle) + height * UP, yaw

    def around_handle(poses: Poses) -> tuple[np.ndarray, float]:
        """Waypoint of the grasp, higher for horizontal errors, where a finger would hit the nut."""
        target, yaw = above_handle(poses, -GRASP_DEPTH)
        offset = float(np.linalg.norm(target[:2] - poses.eef_pos[:2]))
        return target + FUNNEL_SLOPE * max(0.0, offset - GRASP_OFFSET) * UP, yaw

    def above_peg(poses: Poses, height: float) -> tuple[np.ndarray, float]:
        """Waypoint with the nut above the peg."""
        xy = poses.eef_pos[:2] + PEG_POSITION - poses.object_pos[:2]
        return np.array([*xy, height]), poses.eef_yaw + wrap_angle(final_yaw - poses.object_yaw)

    def is_lost(poses: Poses) -> bool:
        """Whether the nut has slipped from the gripper or rotated in it."""
        swing = nearest_angle(poses.object_yaw + np.pi / 2 - poses.eef_yaw, 0.0, np.pi)
        return abs(swing) > SWING_LIMIT or not poses.is_grasped(poses.object_to_world(handle))

    poses = yield from controller.move(
        poses,
        lambda poses: above_handle(poses, hover_height),
        OPEN,
        tolerance=(0.01, 0.01, 0.02),
        yaw_tolerance=0.1,
        max_steps=60,
        integral=True,
    )
    poses = yield from controller.move(
        poses,
        around_handle,
        OPEN,
        tolerance=(0.006, 0.006, 0.010),
        max_steps=50,
        integral=True,
    )
    poses = yield from actuate_gripper(poses, CLOSED, CLOSING_STEPS)
    lifted, yaw = np.array([*poses.eef_pos[:2], carry_height]), poses.eef_yaw
    poses = yield from controller.move(
        poses, lambda poses: (lifted, yaw), CLOSED, tolerance=(0.05, 0.05, 0.03), max_steps=30
    )
    poses = yield from controller.move(
        poses,
        lambda poses: above_peg(poses, carry_height),
        CLOSED,
        tolerance=(0.007, 0.007, 0.03),
        yaw_tolerance=0.06,
        max_steps=60,
        stop=is_lost,
    )
    if is_lost(poses):
        return poses
    poses = yield from controller.move(
        poses,
        lambda poses: above_peg(poses, PUSH_HEIGHT),
        CLOSED,
        tolerance=(0.0, 0.0, 0.0),
        max_steps=30,
        stop=lambda poses: poses.object_pos[2] < PLACED_HEIGHT or is_lost(poses),
    )
    poses = yield from actuate_gripper(poses, OPEN, OPENING_STEPS)
    retreat = np.array([*poses.eef_pos[:2], carry_height])
    return (
        yield from controller.move(
            poses,
            lambda poses: (retreat, poses.eef_yaw),
            OPEN,
            tolerance=(0.05, 0.05, 0.03),
            max_steps=20,
        )
    )


def choose_yaws(nut_yaw: float) -> tuple[float, float]:
    """Choose grasp and placement with the smallest rotation of the gripper.

    It is at most a right angle from the initial yaw; the last joint's limit is at about 2 rad.

    Args:
        nut_yaw: yaw of the nut before the grasp.

    Returns:
        Yaw of the finger axis at the grasp, and yaw of the nut on the peg.
    """
    across = nearest_angle(nut_yaw + np.pi / 2, INITIAL_YAW, np.pi)
    choices = product((across, across - np.pi, across + np.pi), FINAL_YAWS)

    def largest_rotation(choice: tuple[float, float]) -> float:
        """Largest deviation from the initial yaw, at the grasp or on the peg."""
        grasp, final = choice
        placed = grasp + wrap_angle(final - nut_yaw)
        return max(abs(grasp - INITIAL_YAW), abs(placed - INITIAL_YAW))

    return min(choices, key=largest_rotation)
