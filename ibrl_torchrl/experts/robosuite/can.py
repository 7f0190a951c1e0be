"""How to carry a can to its bin. Lengths in metres, angles in radians."""

from __future__ import annotations

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

HOVER = (0.10, 0.14)  # above the can
ASIDE = 0.02  # how far to the side of the can the hand comes down at most
GRASP = (0.005, 0.020)  # above the can's centre
YAW_SPREAD = 0.2  # of the finger axis when it grasps; the can is round
LIFTED, CARRIED, LOWERED = 1.04, (1.06, 1.10), 0.93  # heights of the hand
# The bin's centre is (0.198, 0.40), where the arm is stretched so far that it stalls.
PLACE = np.array([0.19, 0.36])
PLACE_SPREAD = 0.015
AWAY = 0.15  # above the can it has let go
CLOSING, OPENING = 6, 2  # steps


def move_can(scene: Scene, hand: Hand, rng: np.random.Generator) -> Motion:
    """Grasp the can, carry it over the rim to its bin and let go."""

    def lost(now: Scene) -> bool:
        """The can has fallen from the hand."""
        return not now.holds(now.object)

    above = np.array([*rng.uniform(-ASIDE, ASIDE, 2), rng.uniform(*HOVER)])
    grasp = np.array([0.0, 0.0, rng.uniform(*GRASP)])
    yaw = START_YAW + rng.uniform(-YAW_SPREAD, YAW_SPREAD)
    place = PLACE + rng.uniform(-PLACE_SPREAD, PLACE_SPREAD, 2)
    carried = rng.uniform(*CARRIED)
    scene = yield from hand.move(
        scene,
        lambda now: (now.object + above, yaw),
        OPEN,
        within=(0.015, 0.015, 0.03),
        turned=0.2,
        at_most=50,
        patient=True,
    )
    scene = yield from hand.move(
        scene,
        lambda now: (now.object + grasp, yaw),
        OPEN,
        within=(0.01, 0.01, 0.012),
        at_most=40,
        patient=True,
    )
    scene = yield from grip(scene, CLOSED, CLOSING)
    lifted = np.array([*scene.hand[:2], LIFTED])
    scene = yield from hand.move(
        scene, lambda now: (lifted, yaw), CLOSED, within=(0.05, 0.05, 0.03), at_most=40
    )
    # Free to turn, the arm reaches farther; as it lowers, it may still fall short a little.
    over, into = np.array([*place, carried]), np.array([*place, LOWERED])
    scene = yield from hand.move(
        scene,
        lambda now: (over, now.hand_yaw),
        CLOSED,
        within=(0.03, 0.03, 0.02),
        at_most=100,
        until=lost,
    )
    scene = yield from hand.move(
        scene,
        lambda now: (into, now.hand_yaw),
        CLOSED,
        within=(0.05, 0.05, 0.02),
        at_most=25,
        until=lost,
    )
    if lost(scene):
        return scene
    scene = yield from grip(scene, OPEN, OPENING)
    away = scene.hand + AWAY * UP
    return (
        yield from hand.move(
            scene,
            lambda now: (away, now.hand_yaw),
            OPEN,
            within=(0.02, 0.02, 0.02),
            at_most=20,
        )
    )
