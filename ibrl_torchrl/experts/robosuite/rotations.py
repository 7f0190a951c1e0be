"""Rotations in NumPy: unit quaternions xyzw, rotation vectors and yaws, in radians."""

from __future__ import annotations

import math

import numpy as np


def rotate(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Turn vectors [*, 3] by quaternions [*, 4]."""
    axis, scalar = quaternion[..., :3], quaternion[..., 3:]
    across = np.cross(axis, vector)
    return vector + 2 * (scalar * across + np.cross(axis, across))


def inverse(quaternion: np.ndarray) -> np.ndarray:
    """The way back, quaternions [*, 4]."""
    return quaternion * [-1.0, -1.0, -1.0, 1.0]


def product(last: np.ndarray, first: np.ndarray) -> np.ndarray:
    """One rotation after another, quaternions [*, 4], the short way round (w is at least 0)."""
    axis, scalar = last[..., :3], last[..., 3:]
    other, other_scalar = first[..., :3], first[..., 3:]
    vector = scalar * other + other_scalar * axis + np.cross(axis, other)
    real = scalar * other_scalar - (axis * other).sum(-1, keepdims=True)
    both = np.concatenate([vector, real], axis=-1)
    return np.where(real < 0, -both, both)


def rotation_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The shortest way from one orientation to another, both quaternions [4].

    Returns:
        rotation vector [3] in the frame that both are given in; its length is at most pi.
    """
    *axis, scalar = product(end, inverse(start))
    length = np.linalg.norm(axis)
    if length < 1e-9:
        return 2 * np.array(axis)
    return np.array(axis) * (2 * math.atan2(length, scalar) / length)


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
