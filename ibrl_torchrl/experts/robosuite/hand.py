"""A Panda hand that points down: what it sees, and how it moves to where it should be."""

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

OPEN, CLOSED = -1.0, 1.0  # the gripper's action

POSITION_GAIN = 14.0  # action per metre; an action of 1 asks for 5 cm
ROTATION_GAIN = 4.0  # action per radian; an action of 1 asks for 0.5 rad
ROTATION_LIMIT = 0.5  # largest rotation action
SPEED = (0.7, 1.0)  # largest position action, drawn for each episode
# The arm stalls a centimetre short where it is stretched or folded; patience overcomes it.
PATIENCE = 2.0  # action per metre and step
PATIENCE_RANGE = 0.03  # metres to the goal
IN_HAND = 0.03  # metres between the hand and what it holds, at most
START_YAW = -np.pi / 2  # of the finger axis as an episode begins, in radians

X, Y, UP = np.eye(3)


@dataclass(frozen=True)
class Scene:
    """Where things are, in metres and world coordinates.

    Args:
        hand: xyz between the finger tips.
        hand_quat: orientation of the hand, xyzw; its fingers move along its y.
        object: xyz of the object.
        object_quat: its orientation, xyzw.
    """

    hand: np.ndarray
    hand_quat: np.ndarray
    object: np.ndarray
    object_quat: np.ndarray

    @property
    def hand_yaw(self) -> float:
        """Where the finger axis points, in radians."""
        return yaw_of(self.hand_quat, Y)

    @property
    def object_yaw(self) -> float:
        """Where the object's x points, in radians."""
        return yaw_of(self.object_quat, X)

    def on_object(self, point: np.ndarray) -> np.ndarray:
        """Where a point [3] of the object's own frame is."""
        return self.object + rotate(self.object_quat, point)

    def holds(self, point: np.ndarray) -> bool:
        """Whether the hand has this point of the world in it."""
        return bool(np.linalg.norm(point - self.hand) < IN_HAND)


# A motion yields actions, is sent the scenes they lead to, and returns the last of them.
Motion = Generator[np.ndarray, Scene, Scene]
# Where the hand should be (xyz in metres) and where its finger axis should point (radians).
Goal = Callable[[Scene], tuple[np.ndarray, float]]


class Hand:
    """Moves with one speed through an episode, as a person has theirs.

    Args:
        rng: where the speed comes from.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.speed = rng.uniform(*SPEED)

    def move(
        self,
        scene: Scene,
        goal: Goal,
        gripper: float,
        *,
        within: tuple[float, float, float],
        turned: float = np.inf,
        at_most: int,
        until: Callable[[Scene], bool] = lambda now: False,
        patient: bool = False,
    ) -> Motion:
        """Go to a goal, which may move with the scene.

        Args:
            scene: where things are now.
            goal: tells where the hand should be, and how it should be turned.
            gripper: ``OPEN`` or ``CLOSED``.
            within: errors in x, y and z below which the hand has arrived, in metres.
            turned: error of the yaw below which it has, in radians; default any.
            at_most: steps after which this is good enough.
            until: tells what else ends the motion; default nothing.
            patient: push harder the longer the hand stays close to the goal without arriving.
        """
        pushed = np.zeros(3)
        for _ in range(at_most):
            position, yaw = goal(scene)
            error = position - scene.hand
            arrived = (abs(error) < within).all() and abs(wrap_angle(yaw - scene.hand_yaw)) < turned
            if arrived or until(scene):
                break
            if patient and np.linalg.norm(error) < PATIENCE_RANGE:
                pushed += PATIENCE * error
            push = POSITION_GAIN * error + pushed
            turn = ROTATION_GAIN * rotation_between(scene.hand_quat, downward_orientation(yaw))
            scene = yield np.array(
                [
                    *push.clip(-self.speed, self.speed),
                    *turn.clip(-ROTATION_LIMIT, ROTATION_LIMIT),
                    gripper,
                ]
            )
        return scene


def grip(scene: Scene, gripper: float, steps: int) -> Motion:
    """Open or close the fingers and keep still otherwise."""
    for _ in range(steps):
        scene = yield np.array([0.0] * 6 + [gripper])
    return scene
