"""Motion primitives of a Panda arm whose gripper points down. Metres, radians, world frame."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

from ibrl_torchrl.experts.robosuite.rotations import (
    downward_orientation,
    rotate,
    rotation_between,
    wrap_angle,
    yaw_of,
)

OPEN, CLOSED = -1.0, 1.0  # gripper actions

POSITION_GAIN = 14.0  # action per metre; an action of 1 is a delta of 5 cm
ROTATION_GAIN = 4.0  # action per radian; an action of 1 is a delta of 0.5 rad
ROTATION_LIMIT = 0.5  # largest rotation action
SPEED = (0.7, 1.0)  # range of the largest position action, drawn per episode
# Where the arm is stretched or folded, proportional control has an error of about a centimetre.
INTEGRAL_GAIN = 2.0  # action per metre and step
INTEGRAL_RANGE = 0.03  # distance to the waypoint below which errors are integrated
GRASP_RADIUS = 0.03  # largest distance of the end effector from a grasped point
INITIAL_YAW = -np.pi / 2  # yaw of the finger axis at the start of an episode

X, Y, UP = np.eye(3)


@dataclass(frozen=True)
class Poses:
    """Poses of end effector and object in the world frame.

    Args:
        eef_pos: position between the finger tips, [3].
        eef_quat: orientation of the end effector, xyzw [4]; the fingers move along its y axis.
        object_pos: position of the object, [3].
        object_quat: orientation of the object, xyzw [4].
    """

    eef_pos: np.ndarray
    eef_quat: np.ndarray
    object_pos: np.ndarray
    object_quat: np.ndarray

    @property
    def eef_yaw(self) -> float:
        """Yaw of the finger axis."""
        return yaw_of(self.eef_quat, Y)

    @property
    def object_yaw(self) -> float:
        """Yaw of the object's x axis."""
        return yaw_of(self.object_quat, X)

    def object_to_world(self, point: np.ndarray) -> np.ndarray:
        """Transform a point [3] from the object's frame to the world frame."""
        return self.object_pos + rotate(self.object_quat, point)

    def is_grasped(self, point: np.ndarray) -> bool:
        """Whether a point [3] of the world is between the fingers."""
        return bool(np.linalg.norm(point - self.eef_pos) < GRASP_RADIUS)


# Coroutine that yields actions [7], receives the poses that follow, and returns the last ones.
Motion = Generator[np.ndarray, Poses, Poses]
# Target position [3] and yaw of the finger axis as a function of the current poses.
Waypoint = Callable[[Poses], tuple[np.ndarray, float]]


class WaypointController:
    """Controller that moves the end effector to waypoints, with one speed limit per episode.

    Args:
        rng: generator of the speed limit.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.speed = rng.uniform(*SPEED)

    def move(
        self,
        poses: Poses,
        waypoint: Waypoint,
        gripper: float,
        *,
        tolerance: tuple[float, float, float],
        yaw_tolerance: float = np.inf,
        max_steps: int,
        stop: Callable[[Poses], bool] = lambda poses: False,
        integral: bool = False,
    ) -> Motion:
        """Move to a waypoint, which may depend on the poses.

        Args:
            poses: current poses.
            waypoint: target position and yaw.
            gripper: ``OPEN`` or ``CLOSED``.
            tolerance: errors in x, y and z below which the waypoint is reached.
            yaw_tolerance: error of the yaw below which it is reached, default any.
            max_steps: steps after which the motion ends without reaching the waypoint.
            stop: further condition that ends the motion, default none.
            integral: add an integral term to the proportional control of the position.
        """
        accumulated = np.zeros(3)
        for _ in range(max_steps):
            position, yaw = waypoint(poses)
            error = position - poses.eef_pos
            yaw_error = abs(wrap_angle(yaw - poses.eef_yaw))
            reached = (abs(error) < tolerance).all() and yaw_error < yaw_tolerance
            if reached or stop(poses):
                break
            if integral and np.linalg.norm(error) < INTEGRAL_RANGE:
                accumulated += INTEGRAL_GAIN * error
            displacement = POSITION_GAIN * error + accumulated
            rotation = ROTATION_GAIN * rotation_between(poses.eef_quat, downward_orientation(yaw))
            poses = yield np.array(
                [
                    *displacement.clip(-self.speed, self.speed),
                    *rotation.clip(-ROTATION_LIMIT, ROTATION_LIMIT),
                    gripper,
                ]
            )
        return poses


def actuate_gripper(poses: Poses, gripper: float, steps: int) -> Motion:
    """Open or close the gripper without moving the arm.

    Args:
        poses: current poses.
        gripper: ``OPEN`` or ``CLOSED``.
        steps: number of steps.
    """
    for _ in range(steps):
        poses = yield np.array([0.0] * 6 + [gripper])
    return poses
