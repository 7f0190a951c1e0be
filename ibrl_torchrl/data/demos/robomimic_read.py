"""Read robomimic's HDF5 layout, see ``dataset.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ibrl_torchrl.data.demos.arrays import EpisodeArrays, Selection
from ibrl_torchrl.data.demos.hdf5 import (
    episode_group,
    episode_names,
    read_env_args,
    read_episode_actions,
    read_mapped,
    read_observation,
    read_rewards,
    read_states,
    stored_observations,
)
from ibrl_torchrl.data.demos.robomimic import observation_names
from ibrl_torchrl.data.formats import data_group, open_demos
from ibrl_torchrl.data.nodes import get_node, read_text
from ibrl_torchrl.envs.env_args import with_action_bounds
from ibrl_torchrl.keys import MODEL_XML, SIMULATOR_STATE


def read_robomimic_description(path: Path) -> dict[str, Any]:
    """Description of a file's environment; empty if it has none.

    Raises:
        UsageError: the file is missing or damaged, or in another layout.
    """
    with open_demos(path) as file:
        return read_env_args(data_group(file, path), path)


def read_robomimic(path: Path, selection: Selection) -> Iterator[tuple[str, EpisodeArrays]]:
    """Read the episodes of a file, one at a time.

    Args:
        path: the file.
        selection: what to read.

    Yields:
        File and episode, for messages, and the arrays.

    Raises:
        UsageError: the file is missing, damaged or in another layout, or an episode lacks an array.
    """
    with open_demos(path) as file:
        env_args = with_action_bounds(
            read_env_args(data_group(file, path), path), selection.action_bounds
        )
        keys = selection.keys
        names = episode_names(file, path, selection.filter_key)
        for name in names[: selection.max_episodes]:
            where, group = f"{path}: {name}", episode_group(file, path, name)
            keys = keys or observation_names(stored_observations(group, where), selection.key_map)
            yield where, _read_arrays(group, keys, selection, env_args, where)


def _read_arrays(
    group: h5py.Group,
    keys: Sequence[str],
    selection: Selection,
    env_args: Mapping[str, Any],
    where: str,
) -> EpisodeArrays:
    key_map, with_states = selection.key_map, selection.with_states
    actions = read_episode_actions(group, env_args, where)
    length = len(actions.executed)
    rewards = read_rewards(group, where, length)

    def read(folder: str, key: str) -> np.ndarray:
        if key in key_map:
            return read_mapped(group, folder, key, key_map[key], where, length)
        return read_observation(group, folder, key, env_args, where, length)

    observations = {key: read("obs", key) for key in keys}
    # Files with next_obs may lack those of images, to store them once.
    stored = [
        key
        for key, values in observations.items()
        if get_node(group, "next_obs") is not None
        and (
            values.dtype != np.uint8
            or all(
                get_node(group, f"next_obs/{part}") is not None for part in key_map.get(key, [key])
            )
        )
    ]
    has_states = with_states and get_node(group, "states") is not None
    model_xml = read_text(group.attrs, "model_file") if with_states else None
    return EpisodeArrays(
        observations,
        actions,
        rewards,
        {key: read("next_obs", key) for key in stored},
        {SIMULATOR_STATE: read_states(group, where, length)} if has_states else {},
        {} if model_xml is None else {MODEL_XML: model_xml},
    )
