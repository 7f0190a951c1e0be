"""How to lift a cube. Lengths in metres, angles in radians."""

from __future__ import annotations

import numpy as np

from ibrl_torchrl.experts.robosuite.hand import CLOSED, OPEN, UP, Hand, Motion, Scene, grip
from ibrl_torchrl.experts.robosuite.rotations import nearest_angle

HOVER = (0.06, 0.10)  # above the cube
ASIDE = 0.015  # how far to the side of the cube the hand comes down at most
OFF_CENTRE = 0.006  # how far from the cube's centre it grasps at most
LIFT = 0.15
CLOSING = 5  # steps


def lift_cube(scene: Scene, hand: Hand, rng: np.random.Generator) -> Motion:
    """Hover over the cube, descend, grasp, lift."""
    above = np.array([*rng.uniform(-ASIDE, ASIDE, 2), rng.uniform(*HOVER)])
    grasp = rng.uniform(-OFF_CENTRE, OFF_CENTRE, 3)
    # All four sides are as good; the nearest takes the least turning.
    yaw = nearest_angle(scene.object_yaw, scene.hand_yaw, np.pi / 2)
    scene = yield from hand.move(
        scene,
        lambda now: (now.object + above, yaw),
        OPEN,
        within=(0.012, 0.012, 0.02),
        turned=0.15,
        at_most=40,
    )
    scene = yield from hand.move(
        scene,
        lambda now: (now.object + grasp, yaw),
        OPEN,
        within=(0.008, 0.008, 0.012),
        turned=0.15,
        at_most=25,
    )
    scene = yield from grip(scene, CLOSED, CLOSING)
    top = scene.hand + LIFT * UP
    return (
        yield from hand.move(
            scene, lambda now: (top, yaw), CLOSED, within=(0.02, 0.02, 0.02), at_most=25
        )
    )
