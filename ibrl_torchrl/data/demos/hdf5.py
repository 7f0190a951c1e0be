"""The parts of a file in robomimic's HDF5 layout, which ``demos.py`` describes, each checked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ibrl_torchrl.data.demos.robomimic import join_parts, stored_parts
from ibrl_torchrl.errors import UsageError


@contextmanager
def open_demos(path: Path) -> Iterator[h5py.File]:
    """A file to read; damage that is met while it is open is answered in one line.

    Raises:
        UsageError: the file is missing or damaged.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; check the path or record demonstrations first")
    try:
        with h5py.File(path) as file:
            yield file
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        # h5py answers damage with any of these, depending on which byte is wrong.
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{path}: not a readable HDF5 file, copy or record it again ({reason})"
        ) from error


def data_group(file: h5py.File, path: Path) -> h5py.Group:
    """The group of all episodes."""
    data = file.get("data")
    if not isinstance(data, h5py.Group):
        raise UsageError(
            f"{path}: no group 'data', found {_listed(file)}; this is not robomimic's layout"
        )
    return data


def read_env_args(data: h5py.Group, path: Path) -> dict[str, Any]:
    """What rebuilds the environment; empty if the file does not say."""
    try:
        env_args = json.loads(data.attrs.get("env_args", "{}"))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: the attribute env_args is not JSON ({error})") from error
    if not isinstance(env_args, dict):
        raise UsageError(f"{path}: the attribute env_args is not a JSON object")
    return env_args


def episode_names(file: h5py.File, path: Path, filter_key: str | None = None) -> list[str]:
    """Names of the episodes, all or those of a list, in the order of their numbers."""
    data = data_group(file, path)
    # HDF5 lists demo_10 before demo_2.
    names = [name for name in data if re.fullmatch(r"demo_\d+", name)]
    names = [name for name in names if isinstance(data[name], h5py.Group)]
    if not names:
        raise UsageError(f"{path}: no episodes demo_0, demo_1, ..., found {_listed(data)}")
    if filter_key is not None:
        lists = filter_keys(file)
        if filter_key not in lists:
            known = ", ".join(lists) or "none"
            raise UsageError(f"{path}: no filter key {filter_key!r}; the file has {known}")
        missing = sorted(set(lists[filter_key]) - set(names))
        if missing:
            raise UsageError(f"{path}: mask/{filter_key} names {missing[0]}, which does not exist")
        names = lists[filter_key]
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def filter_keys(file: h5py.File) -> dict[str, list[str]]:
    """The named lists of episodes, such as ``"train"``."""
    masks = file.get("mask")
    if not isinstance(masks, h5py.Group):
        return {}
    return {key: [name.decode() for name in masks[key][()]] for key in masks}


def stored_observations(group: h5py.Group, where: str) -> list[str]:
    """Names of an episode's arrays of observations, sorted; at least one."""
    observations = group.get("obs")
    if not isinstance(observations, h5py.Group) or not len(observations):
        raise UsageError(
            f"{where}: no observations under 'obs', found {_listed(group)}; "
            "make them from the simulator states with: ibrl demos render"
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
    """One observation [T, ...] of an episode, joined where it is stored in parts."""
    parts = stored_parts(key, stored_observations(group, where))
    arrays = {part: _read(group, f"{folder}/{part}", where, length) for part in parts}
    return arrays[key] if parts == [key] else join_parts(arrays, env_args)


def read_actions(group: h5py.Group, where: str) -> np.ndarray:
    """The actions [T, A] of an episode, T at least 1, within [-1, 1]."""
    actions = _read(group, "actions", where)
    if actions.ndim != 2 or len(actions) == 0:
        raise UsageError(f"{where}: actions need shape [T, A], found {list(actions.shape)}")
    beyond = np.argwhere(np.abs(actions) > 1)
    if len(beyond):
        step, dimension = beyond[0]
        raise UsageError(
            f"{where}: actions must lie in [-1, 1], found {actions[step, dimension]:g} "
            f"at step {step}, dimension {dimension}; rescale them"
        )
    return actions


def read_rewards(group: h5py.Group, where: str, length: int) -> np.ndarray:
    """The rewards [T] of an episode, 0 and 1."""
    rewards = _read(group, "rewards", where, length)
    if rewards.ndim != 1:
        raise UsageError(f"{where}: rewards need shape [T], found {list(rewards.shape)}")
    other = np.flatnonzero((rewards != 0) & (rewards != 1))
    if len(other):
        raise UsageError(
            f"{where}: rewards must be 1 at success and else 0, found {rewards[other[0]]:g} "
            f"at step {other[0]}; use the sparse version of the file"
        )
    return rewards


def read_states(group: h5py.Group, where: str, length: int) -> np.ndarray:
    """The simulator states [T, n] of an episode, float64."""
    states = _read(group, "states", where, length, np.float64)
    if states.ndim != 2:
        raise UsageError(f"{where}: states need shape [T, n], found {list(states.shape)}")
    return states


def _read(
    group: h5py.Group,
    key: str,
    where: str,
    length: int | None = None,
    dtype: type = np.float32,
) -> np.ndarray:
    """One array of an episode, of ``dtype`` or uint8, checked; ``length`` is what it must have."""
    node = group.get(key)
    if not isinstance(node, h5py.Dataset):
        parent = key.rpartition("/")[0]
        raise UsageError(
            f"{where}: no {key!r}, found {_listed(group.get(parent) if parent else group)}"
        )
    if node.dtype.kind not in "fiub":
        raise UsageError(f"{where}: {key} must hold numbers, found dtype {node.dtype}")
    if node.ndim == 0 or (length is not None and len(node) != length):
        expected = "one entry per step" if length is None else f"{length} steps as actions have"
        raise UsageError(f"{where}: {key} has shape {list(node.shape)}, expected {expected}")
    array = node[()]
    if array.dtype == np.uint8:
        return array
    with np.errstate(over="ignore"):  # too large for float32 becomes inf, which is refused below
        array = array.astype(dtype)
    broken = np.argwhere(~np.isfinite(array))
    if len(broken):
        index = tuple(broken[0].tolist())
        raise UsageError(f"{where}: {key} holds {array[index]} at index {list(index)}")
    return array


def _listed(group: h5py.Group | None) -> str:
    return (", ".join(group) if isinstance(group, h5py.Group) else "") or "nothing"
