"""Validated access to files in robomimic's HDF5 layout, see ``dataset.py``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ibrl_torchrl.data.demos.arrays import EpisodeActions, labelled_actions
from ibrl_torchrl.data.demos.checks import require_actions, require_finite, require_sparse
from ibrl_torchrl.data.demos.key_map import join_observations, unknown_key
from ibrl_torchrl.data.demos.robomimic import join_parts, stored_parts
from ibrl_torchrl.data.formats import data_group
from ibrl_torchrl.data.nodes import get_node, names_in, read_array, read_names, read_text
from ibrl_torchrl.envs.env_args import action_bounds, parse_env_args, parse_env_info
from ibrl_torchrl.errors import UsageError, brief

ACTIONS = "actions"  # what imitation learns
EXECUTED_ACTIONS = "executed_actions"  # where these differ from it


def read_env_args(data: h5py.Group, path: Path) -> dict[str, Any]:
    """Read the description of the environment in robomimic's format; empty if the file has none.

    It is made of the attributes ``env``, ``env_info`` and ``repository_version`` of robosuite's
    recordings (``collect_human_demonstrations``), which robomimic has not converted.

    Raises:
        UsageError: an attribute is not a JSON object, or a value in it is out of range.
    """
    name = "env_args" if "env_args" in data.attrs or "env" not in data.attrs else "env_info"
    try:
        if name == "env_args":
            return parse_env_args(read_text(data.attrs, name) or "{}")
        return parse_env_info(
            read_text(data.attrs, "env") or "",
            read_text(data.attrs, name) or "{}",
            read_text(data.attrs, "repository_version"),
        )
    except (LookupError, RecursionError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: the attribute {name} {brief(error)}; fix it") from error


def episode_group(file: h5py.File, path: Path, name: str) -> h5py.Group:
    """Return the group of an episode.

    Raises:
        UsageError: there is none.
    """
    group = get_node(data_group(file, path), name)
    if not isinstance(group, h5py.Group):
        raise UsageError(f"{path}: {name} is no episode")
    return group


def episode_names(file: h5py.File, path: Path, filter_key: str | None = None) -> list[str]:
    """Return the names of all episodes, or those of a filter key, in numerical order.

    Raises:
        UsageError: there are no episodes, or the filter key or one of its episodes is missing.
    """
    data = data_group(file, path)
    # HDF5 lists demo_10 before demo_2.
    names = [name for name in data if re.fullmatch(r"demo_\d+", name)]
    names = [name for name in names if isinstance(get_node(data, name), h5py.Group)]
    if not names:
        raise UsageError(f"{path}: no episodes demo_0, demo_1, ..., found {names_in(data)}")
    if filter_key is not None:
        filters = filter_keys(file)
        if filter_key not in filters:
            known = brief(", ".join(filters)) or "none"
            raise UsageError(f"{path}: no filter key {filter_key!r}; the file has {known}")
        missing = sorted(set(filters[filter_key]) - set(names))
        if missing:
            raise UsageError(
                f"{path}: mask/{filter_key} names {brief(missing[0])}, which does not exist"
            )
        names = filters[filter_key]
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def filter_keys(file: h5py.File) -> dict[str, list[str]]:
    """Return the episode names of each filter key, such as ``"train"``.

    Raises:
        ValueError: a filter key is not a list of names.
    """
    masks = get_node(file, "mask")
    if not isinstance(masks, h5py.Group):
        return {}
    return {key: read_names(get_node(masks, key), f"mask/{key}") for key in masks}


def stored_observations(group: h5py.Group, where: str) -> list[str]:
    """Return the sorted names of an episode's stored observations.

    Raises:
        UsageError: there are none.
    """
    observations = get_node(group, "obs")
    if not isinstance(observations, h5py.Group) or not len(observations):
        raise UsageError(
            f"{where}: no observations under 'obs', found {names_in(group)}; "
            + (
                "render them from the simulator states with: ibrl demos render"
                if "states" in group
                else "record them again, or with simulator states"
            )
        )
    return sorted(observations)


def read_observation(
    group: h5py.Group,
    folder: str,
    key: str,
    env_args: Mapping[str, Any],
    where: str,
    length: int,
) -> np.ndarray:
    """Read one observation [T, ...] of an episode, concatenated if it is stored in parts.

    Args:
        group: the episode.
        folder: ``"obs"`` or ``"next_obs"``.
        key: name of the observation.
        env_args: robomimic's description of the environment.
        where: file and episode, for messages.
        length: T.

    Raises:
        UsageError: the observation is missing or invalid.
    """
    stored = stored_observations(group, where)
    parts = stored_parts(key, stored)
    if parts == [key] and key not in stored:
        raise unknown_key(where, f"{folder}/{key}", stored, key)
    arrays = {part: read_values(group, f"{folder}/{part}", where, length) for part in parts}
    if parts == [key]:
        return arrays[key]
    try:
        return join_parts(arrays, env_args)
    except (ValueError, LookupError) as error:  # a shape, a missing part, a quaternion of norm 0
        raise UsageError(
            f"{where}: cannot concatenate {', '.join(parts)} to {key!r}: {error}"
        ) from error


def read_mapped(
    group: h5py.Group, folder: str, key: str, names: Sequence[str], where: str, length: int
) -> np.ndarray:
    """Read one observation [T, ...] of an episode that has other names in the file.

    Args:
        group, folder, key, where, length: see :func:`read_observation`.
        names: names of its parts in the file, in order.

    Raises:
        UsageError: a part is missing or invalid.
    """
    stored = stored_observations(group, where)
    for name in names:
        if get_node(group, f"obs/{name}") is None:
            raise unknown_key(where, f"{folder}/{name}", stored, key)
    arrays = {name: read_values(group, f"{folder}/{name}", where, length) for name in names}
    return join_observations(arrays, key, where)


def read_episode_actions(
    group: h5py.Group, env_args: Mapping[str, Any], where: str
) -> EpisodeActions:
    """Read the executed actions of an episode and the expert's labels, see :func:`read_actions`.

    Raises:
        UsageError: they are missing or invalid.
    """
    actions = read_actions(group, env_args, where)
    if get_node(group, EXECUTED_ACTIONS) is None:
        return EpisodeActions(actions, None)
    executed = read_actions(group, env_args, where, EXECUTED_ACTIONS)
    return labelled_actions(executed, actions, where, EXECUTED_ACTIONS)


def read_actions(
    group: h5py.Group, env_args: Mapping[str, Any], where: str, key: str = ACTIONS
) -> np.ndarray:
    """Read actions [T, A] of an episode, float32 within the file's bounds, T at least 1.

    Args:
        group: the episode.
        env_args: the file's description of the environment, with the bounds if not [-1, 1].
        where: file and episode, for messages.
        key: name of the array. Default ``"actions"``, which imitation learns.

    Raises:
        UsageError: they are missing or invalid.
    """
    return require_actions(
        read_values(group, key, where), where, key, bounds=action_bounds(env_args)
    )


def read_rewards(group: h5py.Group, where: str, length: int) -> np.ndarray:
    """Read the sparse rewards [T] of an episode, float32, 0 or 1.

    Raises:
        UsageError: they are missing or invalid.
    """
    rewards = read_values(group, "rewards", where, length)
    return require_sparse(rewards, where, "rewards", "use the sparse version of the file")


def read_success(group: h5py.Group, where: str, length: int) -> bool:
    """Whether an episode reaches a reward of 1; its rewards may be dense.

    Raises:
        UsageError: rewards are missing or invalid.
    """
    return bool(read_values(group, "rewards", where, length).max() == 1)


def read_states(group: h5py.Group, where: str, length: int) -> np.ndarray:
    """Read the simulator states [T, n] of an episode, float64.

    Raises:
        UsageError: they are missing or invalid.
    """
    if get_node(group, "states") is None:
        raise UsageError(
            f"{where}: no 'states', found {names_in(group)}; simulator states are needed here, "
            "which metaworld and robosuite record"
        )
    states = read_values(group, "states", where, length, np.float64)
    if states.ndim != 2:
        raise UsageError(f"{where}: states need shape [T, n], found {list(states.shape)}")
    return states


def read_values(
    group: h5py.Group,
    key: str,
    where: str,
    length: int | None = None,
    dtype: type = np.float32,
) -> np.ndarray:
    """Read one array of an episode.

    Args:
        group: the episode.
        key: path of the array in it.
        where: file and episode, for messages.
        length: required number of entries; None (default) takes any.
        dtype: dtype of the result, default float32; uint8 stays as it is.

    Raises:
        UsageError: the array is missing, not numeric, not finite, or of another length.
    """
    node = get_node(group, key)
    if not isinstance(node, h5py.Dataset):
        parent = key.rpartition("/")[0]
        raise UsageError(
            f"{where}: no {key!r}, found {names_in(get_node(group, parent) if parent else group)}"
        )
    if node.dtype.kind not in "fiub":
        raise UsageError(f"{where}: {key} must be numeric, found dtype {node.dtype}")
    if node.ndim == 0 or (length is not None and len(node) != length):
        expected = "one entry per step" if length is None else f"{length} steps as actions have"
        raise UsageError(f"{where}: {key} has shape {list(node.shape)}, expected {expected}")
    array = read_array(node)
    if array.dtype == np.uint8:
        return array
    with np.errstate(over="ignore"):  # values beyond float32 become inf, refused below
        array = array.astype(dtype)
    return require_finite(array, f"{where}: {key}")
