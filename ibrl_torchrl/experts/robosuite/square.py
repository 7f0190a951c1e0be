"""How to put a square nut on its peg. Lengths in metres, angles in radians."""

from __future__ import annotations

from itertools import product

import numpy as np

from ibrl_torchrl.experts.robosuite.hand import (
    CLOSED,
    OPEN,
    START_YAW,
    UP,
    Hand,
    Motion,
    Scene,
    grip,
)
from ibrl_torchrl.experts.robosuite.rotations import nearest_angle, wrap_angle

# Where to hold the handle, along the nut's x. It ends at 0.079; an open finger is 0.01 to either
# side, and hits the ring of the nut where that begins, at 0.044.
HANDLE = (0.057, 0.067)
HOVER = (0.07, 0.10)  # above the handle
BELOW = 0.008  # how far below the handle's middle the fingers go
ASIDE = 0.006  # how far to the side of the handle the hand may be to grasp it
FUNNEL = 3.0  # metres that the hand stays higher for each metre more to the side
LARGEST_SWING = 0.3  # of the nut in the hand
LIFTED = (1.01, 1.04)  # height of the hand as it carries
PEG = np.array([0.23, 0.10])
PUSHED = 0.80  # height that the hand pushes towards over the peg
ON_PEG = 0.875  # height of the nut when it is on the peg
# Yaws of the nut on the peg. With 0 its handle points away from the robot, out of reach.
FINAL_YAWS = (np.pi, np.pi / 2, -np.pi / 2)
CLOSING, OPENING = 9, 4  # steps; the handle slips from a hand that closes for less


def thread_nut(scene: Scene, hand: Hand, rng: np.random.Generator) -> Motion:
    """Grasp the nut by its handle, bring it over the peg and push it down."""
    handle = np.array([rng.uniform(*HANDLE), 0.0, 0.0])
    hover = rng.uniform(*HOVER)
    lifted = rng.uniform(*LIFTED)
    grasp_yaw, final_yaw = _choose_yaws(scene.object_yaw)

    def over_handle(now: Scene, height: float) -> tuple[np.ndarray, float]:
        """Fingers at a right angle to the handle, on the side chosen above."""
        yaw = nearest_angle(now.object_yaw + np.pi / 2, grasp_yaw, np.pi)
        return now.on_object(handle) + height * UP, yaw

    def around_handle(now: Scene) -> tuple[np.ndarray, float]:
        """Down a funnel: only as low as the hand is right above, or a finger hits the nut."""
        goal, yaw = over_handle(now, -BELOW)
        aside = np.linalg.norm(goal[:2] - now.hand[:2])
        return goal + FUNNEL * max(0.0, aside - ASIDE) * UP, yaw

    def over_peg(now: Scene, height: float) -> tuple[np.ndarray, float]:
        """Where the hand has to be for the nut to be over the peg."""
        xy = now.hand[:2] + PEG - now.object[:2]
        return np.array([*xy, height]), now.hand_yaw + wrap_angle(final_yaw - now.object_yaw)

    def lost(now: Scene) -> bool:
        """The nut has fallen from the hand, or swung in it."""
        swing = nearest_angle(now.object_yaw + np.pi / 2 - now.hand_yaw, 0.0, np.pi)
        return abs(swing) > LARGEST_SWING or not now.holds(now.on_object(handle))

    scene = yield from hand.move(
        scene,
        lambda now: over_handle(now, hover),
        OPEN,
        within=(0.01, 0.01, 0.02),
        turned=0.1,
        at_most=60,
        patient=True,
    )
    scene = yield from hand.move(
        scene, around_handle, OPEN, within=(0.006, 0.006, 0.010), at_most=50, patient=True
    )
    scene = yield from grip(scene, CLOSED, CLOSING)
    above, yaw = np.array([*scene.hand[:2], lifted]), scene.hand_yaw
    scene = yield from hand.move(
        scene, lambda now: (above, yaw), CLOSED, within=(0.05, 0.05, 0.03), at_most=30
    )
    scene = yield from hand.move(
        scene,
        lambda now: over_peg(now, lifted),
        CLOSED,
        within=(0.007, 0.007, 0.03),
        turned=0.06,
        at_most=60,
        until=lost,
    )
    if lost(scene):
        return scene
    scene = yield from hand.move(
        scene,
        lambda now: over_peg(now, PUSHED),
        CLOSED,
        within=(0.0, 0.0, 0.0),
        at_most=30,
        until=lambda now: now.object[2] < ON_PEG or lost(now),
    )
    scene = yield from grip(scene, OPEN, OPENING)
    away = np.array([*scene.hand[:2], lifted])
    return (
        yield from hand.move(
            scene,
            lambda now: (away, now.hand_yaw),
            OPEN,
            within=(0.05, 0.05, 0.03),
            at_most=20,
        )
    )


def _choose_yaws(nut_yaw: float) -> tuple[float, float]:
    """How to hold the nut and how to put it on the peg, so that the hand turns little.

    A right angle from where it begins is always enough; the last joint ends at about 2 radians.

    Args:
        nut_yaw: of the nut as it lies.

    Returns:
        Yaw of the hand when it grasps, and yaw of the nut on the peg, in radians.
    """
    across = nearest_angle(nut_yaw + np.pi / 2, START_YAW, np.pi)
    choices = product((across, across - np.pi, across + np.pi), FINAL_YAWS)

    def turned(choice: tuple[float, float]) -> float:
        """How far the hand is from where it began, at the grasp or on the peg."""
        grasp, final = choice
        placed = grasp + wrap_angle(final - nut_yaw)
        return max(abs(grasp - START_YAW), abs(placed - START_YAW))

    return min(choices, key=turned)
