"""Load demonstrations from robomimic's HDF5 layout, see ``dataset.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from tensordict import NestedKey, TensorDict

from ibrl_torchrl.data.demos.arrays import EpisodeArrays, to_episode
from ibrl_torchrl.data.demos.dataset import Demos
from ibrl_torchrl.data.demos.hdf5 import (
    data_group,
    episode_group,
    episode_names,
    open_demos,
    read_env_args,
    read_episode_actions,
    read_mapped,
    read_observation,
    read_rewards,
    read_states,
    stored_observations,
)
from ibrl_torchrl.data.demos.key_map import KeyMap
from ibrl_torchrl.data.demos.nodes import get_node, read_text
from ibrl_torchrl.data.demos.robomimic import observation_names
from ibrl_torchrl.episodes import observation_keys, stack_frames
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import ACTION, MODEL_XML, NEXT, SIMULATOR_STATE, SUCCESS


def load_demos(
    path: str | Path,
    *,
    keys: Sequence[str] | None = None,
    key_map: KeyMap | None = None,
    max_episodes: int | None = None,
    filter_key: str | None = None,
    frame_stack: int = 1,
    state_stack: int = 1,
) -> Demos:
    """Load and validate demonstrations from a file in robomimic's HDF5 layout.

    Episodes are in the order of their numbers and end at their first reward of 1; files may
    continue for several steps after success. Values are converted to float32; images stay uint8,
    [T, C, H, W]. Without ``next_obs`` in the file, the following ``obs`` replaces it. The last step
    has none: if it succeeds, its own ``obs`` is repeated, from which no target bootstraps;
    otherwise the step is dropped.

    ``action`` is the executed one. Where the file has ``executed_actions``, as DAgger's has, its
    ``actions`` are the expert's labels, and become ``expert_action``.

    Args:
        path: the file.
        keys: observation keys to read; None (default) reads all keys of the first episode.
        key_map: names of the file's arrays that make up an observation, concatenated in this order,
            such as ``{"state": ["ee_pos", "gripper", "object_pose"]}``; of an image a single one,
            channels last or first. None (default): observations have the file's names.
        max_episodes: maximum number of episodes, the first ones; None (default) reads all.
        filter_key: filter key of the file, such as ``"train"``; None (default) reads all episodes.
        frame_stack: images in each observation of an image key, the newest last; at the start of
            an episode its first image is repeated. Default 1.
        state_stack: observations stacked for every other key; zeros at the start. Default 1.

    Returns:
        The episodes, the file's ``env_args`` and its path.

    Raises:
        UsageError: the file is missing, damaged, or not in robomimic's layout; it has no such
            filter key; an episode lacks a key, has inconsistent lengths or shapes, values that are
            not finite or actions outside [-1, 1]; or no episode succeeds.
        ValueError: ``max_episodes`` is below 1.

    Example:
        >>> from ibrl_torchrl import load_demos
        >>> demos = load_demos("demos.hdf5", keys=["state"])  # doctest: +SKIP
        >>> demos.episodes[0]["state"].shape  # doctest: +SKIP
        torch.Size([47, 39])
    """
    if max_episodes is not None and max_episodes < 1:
        raise ValueError(f"max_episodes must be at least 1, found {max_episodes}; use None for all")
    path = Path(path)
    env_args = read_description(path)
    episodes: list[TensorDict] = []
    for episode in read_episodes(
        path, keys=keys, key_map=key_map, filter_key=filter_key, max_episodes=max_episodes
    ):
        stack_frames(episode, frame_stack, state_stack)
        episodes.append(episode)
    if not any(bool(episode[NEXT, SUCCESS][-1]) for episode in episodes):
        raise UsageError(
            f"{path}: none of {len(episodes)} episodes reaches a reward of 1, which marks success; "
            "record successful episodes"
        )
    return Demos(episodes, env_args, path)


def read_description(path: Path) -> dict[str, Any]:
    """Read robomimic's description of a file's environment; empty if it has none.

    Raises:
        UsageError: the file is missing or damaged, or in no known layout.
    """
    with open_demos(path) as file:
        return read_env_args(data_group(file, path), path)


def read_episodes(
    path: Path,
    *,
    keys: Sequence[str] | None = None,
    key_map: KeyMap | None = None,
    filter_key: str | None = None,
    max_episodes: int | None = None,
    with_states: bool = False,
) -> Iterator[TensorDict]:
    """Read the episodes of a file one at a time, see :func:`load_demos`.

    Args:
        path, keys, key_map, filter_key, max_episodes: see there.
        with_states: add ``simulator_state`` and ``model_xml``, where the file has them. Default
            False.

    Yields:
        TensorDicts [T], of equal shapes.

    Raises:
        UsageError: see there; success is not required.
    """
    with open_demos(path) as file:
        env_args = read_env_args(data_group(file, path), path)
        expected: dict[NestedKey, torch.Size] = {}
        for name in episode_names(file, path, filter_key)[:max_episodes]:
            where = f"{path}: {name}"
            group = episode_group(file, path, name)
            keys = keys or observation_names(stored_observations(group, where), key_map or {})
            episode = to_episode(
                _read_arrays(group, keys, key_map or {}, env_args, where, with_states), where
            )
            expected = expected or _step_shapes(episode)
            _check_shapes(episode, expected, where)
            yield episode


def _read_arrays(
    group: h5py.Group,
    keys: Sequence[str],
    key_map: KeyMap,
    env_args: Mapping[str, Any],
    where: str,
    with_states: bool,
) -> EpisodeArrays:
    actions = read_episode_actions(group, where)
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


def _step_shapes(episode: TensorDict) -> dict[NestedKey, torch.Size]:
    """Shapes of a step's action and observations by key."""
    keys = observation_keys(episode)
    nested: list[NestedKey] = [ACTION, *keys, *((NEXT, key) for key in keys)]
    return {key: episode[key].shape[1:] for key in nested}


def _check_shapes(
    episode: TensorDict, expected: Mapping[NestedKey, torch.Size], where: str
) -> None:
    for key, shape in _step_shapes(episode).items():
        if shape != expected[key]:
            name = key if isinstance(key, str) else f"next_obs/{key[1]}"
            raise UsageError(
                f"{where}: {name} has shape {list(shape)} per step, the first episode has "
                f"{list(expected[key])}; record all episodes in one environment"
            )
