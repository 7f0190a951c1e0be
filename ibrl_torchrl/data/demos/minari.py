"""Read Minari's datasets in HDF5, without Minari.

::

    data/metadata.json           spaces of observations and actions, env_spec (JSON)
    data/main_data.hdf5          episode_0, episode_1, ...:
      observations[/KEY]         [T + 1, ...]; of an image space JPEG files (jpeg_encoding)
      actions                    [T, A] within the action space
      rewards                    [T]
      terminations, truncations  [T]
      infos/KEY                  [T] or [T + 1]
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ibrl_torchrl.data.demos.arrays import EpisodeActions, EpisodeArrays, Selection
from ibrl_torchrl.data.demos.checks import require_actions
from ibrl_torchrl.data.demos.folder import read_json_inside
from ibrl_torchrl.data.demos.frames import decode_image
from ibrl_torchrl.data.demos.hdf5 import read_values
from ibrl_torchrl.data.demos.key_map import join_observations, unknown_key
from ibrl_torchrl.data.formats import MINARI_METADATA, minari_folder, open_demos
from ibrl_torchrl.data.nodes import get_node, read_array
from ibrl_torchrl.errors import UsageError, brief
from ibrl_torchrl.keys import STATE

_FILE = "main_data.hdf5"
_OBSERVATIONS = "observations"
_SUCCESS = ("success", "is_success")  # names of infos
_IMAGE_SUFFIX = "_image"


def read_minari_description(path: Path) -> dict[str, Any]:
    """Description of the environment: its registered name, if the dataset has it.

    Raises:
        UsageError: ``metadata.json`` is missing or damaged.
    """
    metadata = read_json_inside(minari_folder(path), MINARI_METADATA)
    try:
        name = json.loads(metadata.get("env_spec") or "{}")["id"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    return {"env_name": name, "type": "gym"} if isinstance(name, str) else {}


def read_minari(path: Path, selection: Selection) -> Iterator[tuple[str, EpisodeArrays]]:
    """Read the episodes of a dataset, one at a time.

    ``state`` is the observation of a ``Box`` space, and of a ``Dict`` space all its vectors in the
    order of their names. Actions are mapped from the bounds of the action space to [-1, 1]. A step
    succeeds where ``infos/success`` or ``infos/is_success`` says so, or else where the reward is 1
    and all others are 0.

    Args:
        path: folder of the dataset.
        selection: what to read; the format has no filter keys.

    Yields:
        File and episode, for messages, and the arrays.

    Raises:
        UsageError: the dataset is damaged, in another of Minari's formats, has no vectors as
            actions, or does not say what succeeds.
    """
    folder = minari_folder(path)
    metadata = read_json_inside(folder, MINARI_METADATA)
    if metadata.get("data_format", "hdf5") != "hdf5":
        raise UsageError(
            f"{path}: is in Minari's format {brief(metadata['data_format'])}, hdf5 is read; write "
            "it again with data_format='hdf5'"
        )
    if selection.filter_key is not None:
        raise UsageError(f"{path}: has no filter key {selection.filter_key!r}; leave it out")
    if selection.action_bounds is not None:
        raise UsageError(f"{path}: states its action space; leave demos.native_actions out")
    low, high = _action_bounds(metadata, path)
    with open_demos(folder / _FILE) as file:
        for name in _episode_names(file, path)[: selection.max_episodes]:
            where = f"{path}: {name}"
            group = get_node(file, name)
            yield where, _read_episode(group, selection, low, high, where)


def _action_bounds(metadata: Mapping[str, Any], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the action space; of infinite ones -1 and 1."""
    try:
        space = json.loads(metadata["action_space"])
        low, high = np.array(space["low"], np.float64), np.array(space["high"], np.float64)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{path}: the action space is no Box ({brief(metadata.get('action_space'))}); vectors "
            "of numbers are read"
        ) from error
    is_bounded = np.isfinite(low) & np.isfinite(high) & (low < high)
    return np.where(is_bounded, low, -1), np.where(is_bounded, high, 1)


def _episode_names(file: h5py.File, path: Path) -> list[str]:
    names = [name for name in file if re.fullmatch(r"episode_\d+", name)]
    names = [name for name in names if isinstance(get_node(file, name), h5py.Group)]
    if not names:
        raise UsageError(
            f"{path}: no episodes episode_0, episode_1, ..., found {brief(list(file))}"
        )
    return sorted(names, key=lambda name: int(name.removeprefix("episode_")))


def _read_episode(
    group: h5py.Group, selection: Selection, low: np.ndarray, high: np.ndarray, where: str
) -> EpisodeArrays:
    actions = read_values(group, "actions", where, dtype=np.float64)
    if actions.ndim != 2 or actions.shape[1:] != low.shape:
        raise UsageError(
            f"{where}: actions have shape {list(actions.shape)}, the action space "
            f"{list(low.shape)}; write the dataset again"
        )
    if (low != -1).any() or (high != 1).any():
        actions = np.clip(2 * (actions - low) / (high - low) - 1, -1, 1)
    length = len(actions)
    observations = {
        key: _observation(group, names, key, length + 1, where)
        for key, names in _parts(group, selection, where).items()
    }
    return EpisodeArrays(
        {key: values[:-1] for key, values in observations.items()},
        EpisodeActions(require_actions(actions, where, "actions"), None),
        _rewards(group, length, where),
        {key: values[1:] for key, values in observations.items()},
    )


def _parts(group: h5py.Group, selection: Selection, where: str) -> dict[str, Sequence[str]]:
    """Names of the arrays of each observation to read."""
    stored = [*_leaves(get_node(group, _OBSERVATIONS))]
    images = {
        f"{name.removesuffix(_IMAGE_SUFFIX)}{_IMAGE_SUFFIX}": [name]
        for name in stored
        if _is_image(group, name)
    }
    vectors = [name for name in stored if [name] not in images.values()]
    known: dict[str, Sequence[str]] = {
        **{name: [name] for name in stored},
        **images,
        **({STATE: vectors} if vectors else {}),
        **selection.key_map,
    }
    keys = selection.keys or [*images, *([STATE] if vectors else []), *selection.key_map]
    for key in keys:
        for name in known.get(key, [key]):
            if name not in stored:
                raise unknown_key(where, f"{_OBSERVATIONS}/{name}", stored, key)
    return {key: known[key] for key in keys}


def _leaves(node: h5py.Group | h5py.Dataset | None, prefix: str = "") -> Iterator[str]:
    """Paths of arrays below a group; ``observations`` of an array itself."""
    if isinstance(node, h5py.Dataset):
        yield prefix or _OBSERVATIONS
    elif isinstance(node, h5py.Group):
        for name in node:
            yield from _leaves(get_node(node, name), f"{prefix}/{name}" if prefix else name)


def _path(name: str) -> str:
    return name if name == _OBSERVATIONS else f"{_OBSERVATIONS}/{name}"


def _array(group: h5py.Group, name: str) -> h5py.Dataset:
    """Array of an observation by one of the names of :func:`_leaves`."""
    return get_node(group, _path(name))


def _is_image(group: h5py.Group, name: str) -> bool:
    """Whether an array has images: raw ones [T + 1, H, W, C], or JPEG files as bytes."""
    node = _array(group, name)
    if h5py.check_vlen_dtype(node.dtype) == np.uint8:
        return True
    return node.dtype == np.uint8 and node.ndim in (2, 4)


def _observation(
    group: h5py.Group, names: Sequence[str], key: str, length: int, where: str
) -> np.ndarray:
    arrays = {
        name: _images(group, name, length, where)
        if _is_image(group, name)
        else read_values(group, _path(name), where, length)
        for name in names
    }
    return join_observations(arrays, key, where)


def _images(group: h5py.Group, name: str, length: int, where: str) -> np.ndarray:
    node = _array(group, name)
    if len(node) != length:
        raise UsageError(f"{where}: {name} has {len(node)} entries, expected {length}")
    values = read_array(node)
    if values.ndim == 4:
        return values
    return np.stack([decode_image(bytes(each), f"{where}: {name}") for each in values])


def _rewards(group: h5py.Group, length: int, where: str) -> np.ndarray:
    """Sparse rewards, float32 [T], 0 or 1."""
    infos = get_node(group, "infos")
    names = [*infos] if isinstance(infos, h5py.Group) else []
    for name in _SUCCESS:
        if name in names:
            values = read_values(infos, name, where)
            if values.shape not in ((length,), (length + 1,)):
                raise UsageError(
                    f"{where}: infos/{name} has shape {list(values.shape)}, expected {length} "
                    "steps; write the dataset again"
                )
            return (values[-length:] == 1).astype(np.float32)  # infos of a reset come first
    rewards = read_values(group, "rewards", where, length)
    dense = rewards[(rewards != 0) & (rewards != 1)]
    if len(dense) or rewards.ndim != 1:
        raise UsageError(
            f"{where}: rewards are {brief(dense[:1])} and infos have neither success nor "
            f"is_success, found {brief(', '.join(names)) or 'nothing'}; store one of them"
        )
    return rewards
