"""Rotations and planar angles: unit quaternions xyzw, rotation vectors and yaws in radians."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation


def rotate(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Rotate a vector [3] by a quaternion [4]."""
    return _rotation(quaternion).apply(vector)


def rotation_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Relative rotation from one orientation to another.

    Args:
        start: quaternion [4].
        end: quaternion [4] in the same frame.

    Returns:
        Rotation vector [3] in that frame; its norm is at most pi.
    """
    return (_rotation(end) * _rotation(start).inv()).as_rotvec()


def yaw_of(quaternion: np.ndarray, axis: np.ndarray) -> float:
    """Yaw of a body axis [3]: its angle in the world's xy plane, from x towards y."""
    x, y, _ = rotate(quaternion, axis)
    return math.atan2(y, x)


def downward_orientation(yaw: float) -> np.ndarray:
    """Orientation with z pointing down and the y axis at a yaw, as a quaternion [4]."""
    half = math.pi / 4 - yaw / 2
    return np.array([math.sin(half), math.cos(half), 0.0, 0.0])


def nearest_angle(angle: float, reference: float, period: float) -> float:
    """Equivalent of an angle modulo a period that is nearest to a reference."""
    return angle + period * round((reference - angle) / period)


def wrap_angle(angle: float) -> float:
    """Equivalent of an angle modulo 2 pi in [-pi, pi]."""
    return nearest_angle(angle, 0.0, 2 * math.pi)


def _rotation(quaternion: np.ndarray) -> Rotation:
    """Rotation of a quaternion [4]."""
    # Imported here: it takes 0.1 s, and every run imports the experts.
    from scipy.spatial.transform import Rotation

    return Rotation.from_quat(quaternion)
