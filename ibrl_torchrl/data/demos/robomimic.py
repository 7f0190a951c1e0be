"""Observations of robomimic's files of robosuite tasks, as ``RobosuiteEnv`` gives them.

The files store an observation in parts, ``robot0_eef_pos``, ``object`` and so on. The order of
``object`` depends on robosuite's version, and files of robosuite 1.5 have wrong poses of objects
relative to the end effector, which are recomputed here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from ibrl_torchrl.envs.env_args import is_before_1_5
from ibrl_torchrl.keys import PROPRIO, STATE

OBJECT = "object"
_PROPRIO_PARTS = ("eef_pos", "eef_quat", "gripper_qpos")
_PART = re.compile(rf"robot(\d+)_(\w+_)?({'|'.join(_PROPRIO_PARTS)})")
_POSE = 7  # xyz, and an xyzw quaternion
# Tasks whose object vector has each object's pose relative to the end effector and in the world.
_WITH_RELATIVE_POSES = re.compile(r"PickPlace\w+|NutAssembly(Square|Round)|ToolHang")


def stored_parts(key: str, stored: Collection[str]) -> list[str]:
    """Return the names of the stored arrays that make up one observation.

    Args:
        key: name of the observation.
        stored: names of all arrays.

    Returns:
        For ``state`` and ``proprio`` that are stored in parts the ordered names of the parts,
        otherwise the name of the observation alone.
    """
    if key in stored or key not in (STATE, PROPRIO):
        return [key]
    matches = [match for name in stored if (match := _PART.fullmatch(name))]
    matches.sort(key=lambda match: (int(match[1]), match[2] or "", _PROPRIO_PARTS.index(match[3])))
    parts = [match[0] for match in matches]
    if not parts or (key == STATE and OBJECT not in stored):
        return [key]
    return [*parts, OBJECT] if key == STATE else parts


def observation_names(
    stored: Collection[str], key_map: Mapping[str, Collection[str]] | None = None
) -> list[str]:
    """Return the sorted names of the observations that stored arrays make up.

    Args:
        stored: names of all arrays.
        key_map: names of arrays that make up an observation of another name. Default none.
    """
    if key_map:
        mapped = {name for parts in key_map.values() for name in parts}
        return sorted({*key_map, *observation_names([n for n in stored if n not in mapped])})
    composed = {key: stored_parts(key, stored) for key in (STATE, PROPRIO)}
    parts = {name for key, names in composed.items() if names != [key] for name in names}
    if not parts:
        return sorted(stored)
    images = [name for name in stored if name not in parts and name.endswith("_image")]
    return sorted([*composed, *images])


def join_parts(parts: Mapping[str, np.ndarray], env_args: Mapping[str, Any]) -> np.ndarray:
    """Concatenate the parts [T, ...] of an observation to [T, n], in the layout of robosuite 1.5.

    Args:
        parts: arrays by the names of :func:`stored_parts`.
        env_args: the file's description of the environment, for the layout of ``object``.
    """
    arrays = dict(parts)
    # Files of this package have the current layout.
    if OBJECT in parts and len(parts) > 1 and "ibrl_torchrl" not in env_args:
        arrays[OBJECT] = _convert_object(parts, env_args)
    return np.concatenate([array.reshape(len(array), -1) for array in arrays.values()], axis=-1)


def split_parts(key: str, values: np.ndarray, env_args: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Split an observation [T, n] into the parts [T, ...] to store, the inverse of `join_parts`.

    Args:
        key: name of the observation.
        values: the observation.
        env_args: description of the environment, with names and sizes of the parts of ``state``
            under ``state_parts``; without them the observation is not split.
    """
    sizes = env_args.get("state_parts")
    if sizes is None or key not in (STATE, PROPRIO):
        return {key: values}
    if key == PROPRIO:  # stored as parts of state
        return {}
    proprio = {name: size for name, size in sizes.items() if _PART.fullmatch(name)}
    parts = np.split(values, np.cumsum([*proprio.values()]), axis=-1)
    return dict(zip([*proprio, OBJECT], parts, strict=True))


def _convert_object(parts: Mapping[str, np.ndarray], env_args: Mapping[str, Any]) -> np.ndarray:
    """Convert ``object`` to the layout of robosuite 1.5, with correct relative poses."""
    task, values = str(env_args.get("env_name", "")), parts[OBJECT]
    if is_before_1_5(env_args):
        values = _reorder_object(task, values)
    if _WITH_RELATIVE_POSES.fullmatch(task):
        (eef_pos,) = (name for name in parts if name.endswith("eef_pos"))
        orientation = parts[eef_pos.replace("eef_pos", "eef_quat")]
        values = values.copy()
        for start in range(0, values.shape[1] - 2 * _POSE + 1, 2 * _POSE):
            pose = values[:, start + _POSE : start + 2 * _POSE]
            values[:, start : start + _POSE] = relative_pose(parts[eef_pos], orientation, pose)
    return values


def _reorder_object(task: str, values: np.ndarray) -> np.ndarray:
    """Reorder ``object`` [T, n] from the layout of robosuite 1.4 to that of 1.5."""
    if task == "Lift":  # from gripper to cube instead of from cube to gripper
        return np.concatenate([values[:, :7], -values[:, 7:]], axis=1)
    if task == "TwoArmTransport":  # flags before relative positions instead of after
        return np.concatenate([values[:, :27], values[:, 39:41], values[:, 27:39]], axis=1)
    if _WITH_RELATIVE_POSES.fullmatch(task):
        flags = values.shape[1] % (2 * _POSE)
        blocks = values[:, : values.shape[1] - flags].reshape(len(values), -1, 2, _POSE)
        rest = values[:, values.shape[1] - flags :]
        return np.concatenate([blocks[:, :, ::-1].reshape(len(values), -1), rest], axis=1)
    return values


def relative_pose(position: np.ndarray, orientation: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Transform world poses to the frame of the end effector.

    Args:
        position: end effector positions, [T, 3] in metres.
        orientation: end effector quaternions xyzw, [T, 4].
        pose: positions and quaternions xyzw in the world, [T, 7].

    Returns:
        Positions and quaternions xyzw in the frame of the end effector, [T, 7], with w >= 0 as in
        robosuite.
    """
    # Imported here: it takes 0.1 s, and every run imports the readers.
    from scipy.spatial.transform import Rotation

    to_eef = Rotation.from_quat(orientation).inv()
    relative = to_eef * Rotation.from_quat(pose[:, 3:])
    return np.concatenate(
        [to_eef.apply(pose[:, :3] - position), relative.as_quat(canonical=True)], axis=-1
    )
