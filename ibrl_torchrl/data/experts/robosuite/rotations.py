"""Rotations in NumPy: unit quaternions xyzw, rotation vectors and yaws, in radians."""

from __future__ import annotations

import math

import numpy as np


def rotate(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Turn a vector [3] by a quaternion [4]."""
    axis, scalar = quaternion[:3], quaternion[3]
    across = np.cross(axis, vector)
    return vector + 2 * (scalar * across + np.cross(axis, across))


def rotation_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The shortest way from one orientation to another, both quaternions [4].

    Returns:
        rotation vector [3] in the frame that both are given in; its length is at most pi.
    """
    # The quaternion of end * inverse(start).
    axis = start[3] * end[:3] - end[3] * start[:3] - np.cross(end[:3], start[:3])
    scalar = end @ start
    if scalar < 0:  # the same rotation, the shorter way round
        axis, scalar = -axis, -scalar
    length = np.linalg.norm(axis)
    if length < 1e-9:
        return 2 * axis
    return axis * (2 * math.atan2(length, scalar) / length)


def yaw_of(quaternion: np.ndarray, axis: np.ndarray) -> float:
    """Where an axis [3] of a body points in the xy plane, counted from world x towards y."""
    x, y, _ = rotate(quaternion, axis)
    return math.atan2(y, x)


def pointing_down(yaw: float) -> np.ndarray:
    """The orientation with z down and y at a yaw, as a quaternion [4]."""
    half = math.pi / 4 - yaw / 2
    return np.array([math.sin(half), math.cos(half), 0.0, 0.0])


def nearest_angle(angle: float, reference: float, period: float) -> float:
    """Of ``angle + k * period`` for all whole k, the one nearest to ``reference``."""
    return angle + period * round((reference - angle) / period)


def wrapped(angle: float) -> float:
    """The same direction as an angle in [-pi, pi]."""
    return nearest_angle(angle, 0.0, 2 * math.pi)
