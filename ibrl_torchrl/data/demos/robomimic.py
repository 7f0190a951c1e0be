"""What is particular about robomimic's files of robosuite tasks.

They hold an observation in parts, ``robot0_eef_pos``, ``object`` and so on, in an order of the
object's numbers that depends on robosuite's version; and where an object is seen from the end
effector, robosuite 1.5 recorded it wrongly. Read here, all of them give the observations of
``RobosuiteEnv``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from ibrl_torchrl.envs.env_args import is_before_1_5
from ibrl_torchrl.experts.robosuite.rotations import inverse, product, rotate
from ibrl_torchrl.keys import PROPRIO, STATE

OBJECT = "object"
_SENSES = ("eef_pos", "eef_quat", "gripper_qpos")
_PART = re.compile(rf"robot(\d+)_(\w+_)?({'|'.join(_SENSES)})")
_POSE = 7  # xyz, and an xyzw quaternion
# Tasks whose object vector holds, for each object, its pose from the end effector and its pose.
_SEEN_FROM_HAND = re.compile(r"PickPlace\w+|NutAssembly(Square|Round)|ToolHang")


def stored_parts(key: str, stored: Collection[str]) -> list[str]:
    """The arrays of an episode that make up one of its observations.

    Args:
        key: name of an observation.
        stored: names of all arrays.

    Returns:
        The name alone, or, for ``state`` and ``proprio`` where only parts of them are stored,
        theirs in order; the name alone if there are none.
    """
    if key in stored or key not in (STATE, PROPRIO):
        return [key]
    found = [match for name in stored if (match := _PART.fullmatch(name))]
    found.sort(key=lambda match: (int(match[1]), match[2] or "", _SENSES.index(match[3])))
    parts = [match[0] for match in found]
    if not parts or (key == STATE and OBJECT not in stored):
        return [key]
    return [*parts, OBJECT] if key == STATE else parts


def observation_names(stored: Collection[str]) -> list[str]:
    """The observations that an episode's arrays can give, sorted."""
    composed = {key: stored_parts(key, stored) for key in (STATE, PROPRIO)}
    parts = {name for key, names in composed.items() if names != [key] for name in names}
    if not parts:
        return sorted(stored)
    rest = [name for name in stored if name not in parts and name.endswith("_image")]
    return sorted([*composed, *rest])


def join_parts(parts: Mapping[str, np.ndarray], env_args: Mapping[str, Any]) -> np.ndarray:
    """One observation [T, n] of its parts [T, ...].

    Args:
        parts: as :func:`stored_parts` names them.
        env_args: of the file, for the order of the object's numbers.
    """
    arrays = dict(parts)
    # What this package writes needs no mending.
    if OBJECT in parts and len(parts) > 1 and "ibrl_torchrl" not in env_args:
        arrays[OBJECT] = _object_of_today(parts, env_args)
    return np.concatenate([array.reshape(len(array), -1) for array in arrays.values()], axis=-1)


def split_parts(key: str, values: np.ndarray, env_args: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The parts [T, ...] by which an observation [T, n] is stored, the inverse of `join_parts`.

    Args:
        key: name of the observation.
        values: its numbers.
        env_args: of the environment; ``state_parts`` are names and sizes of what is in ``state``.
    """
    sizes = env_args.get("state_parts")
    if sizes is None or key not in (STATE, PROPRIO):
        return {key: values}
    if key == PROPRIO:  # a part of the state
        return {}
    felt = {name: size for name, size in sizes.items() if _PART.fullmatch(name)}
    parts = np.split(values, np.cumsum([*felt.values()]), axis=-1)
    return dict(zip([*felt, OBJECT], parts, strict=True))


def _object_of_today(parts: Mapping[str, np.ndarray], env_args: Mapping[str, Any]) -> np.ndarray:
    """The object's numbers as robosuite 1.5 orders and means them."""
    task, values = str(env_args.get("env_name", "")), parts[OBJECT]
    if is_before_1_5(env_args):
        values = _reordered(task, values)
    if _SEEN_FROM_HAND.fullmatch(task):
        (hand,) = (name for name in parts if name.endswith("eef_pos"))
        turn = parts[hand.replace("eef_pos", "eef_quat")]
        values = values.copy()
        for start in range(0, values.shape[1] - 2 * _POSE + 1, 2 * _POSE):
            pose = values[:, start + _POSE : start + 2 * _POSE]
            values[:, start : start + _POSE] = relative_pose(parts[hand], turn, pose)
    return values


def _reordered(task: str, values: np.ndarray) -> np.ndarray:
    """From the order of robosuite 1.4 to that of 1.5."""
    if task == "Lift":  # from gripper to cube instead of from cube to gripper
        return np.concatenate([values[:, :7], -values[:, 7:]], axis=1)
    if task == "TwoArmTransport":  # flags before what grippers see, instead of after
        return np.concatenate([values[:, :27], values[:, 39:41], values[:, 27:39]], axis=1)
    if _SEEN_FROM_HAND.fullmatch(task):
        flags = values.shape[1] % (2 * _POSE)
        blocks = values[:, : values.shape[1] - flags].reshape(len(values), -1, 2, _POSE)
        rest = values[:, values.shape[1] - flags :]
        return np.concatenate([blocks[:, :, ::-1].reshape(len(values), -1), rest], axis=1)
    return values


def relative_pose(position: np.ndarray, turn: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Poses relative to a hand.

    Args:
        position: [T, 3] of the hand.
        turn: [T, 4] of the hand, quaternions xyzw.
        pose: [T, 7] in the world: position and quaternion xyzw.

    Returns:
        [T, 7] likewise, quaternions with w >= 0 as robosuite gives them.
    """
    back = inverse(turn)
    return np.concatenate(
        [rotate(back, pose[:, :3] - position), product(back, pose[:, 3:])], axis=-1
    )
