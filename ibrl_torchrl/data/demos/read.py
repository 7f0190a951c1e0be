"""Load demonstrations from robomimic's HDF5 layout, see ``dataset.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from tensordict import TensorDict

from ibrl_torchrl.data.demos.dataset import Demos
from ibrl_torchrl.data.demos.hdf5 import (
    EpisodeActions,
    data_group,
    episode_group,
    episode_names,
    open_demos,
    read_env_args,
    read_episode_actions,
    read_observation,
    read_rewards,
    stored_observations,
)
from ibrl_torchrl.data.demos.nodes import get_node
from ibrl_torchrl.data.demos.robomimic import observation_names
from ibrl_torchrl.episodes import observation_keys, stack_frames
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import (
    ACTION,
    DONE,
    EXPERT_ACTION,
    NEXT,
    REWARD,
    SUCCESS,
    TERMINATED,
    TRUNCATED,
)


def load_demos(
    path: str | Path,
    *,
    keys: Sequence[str] | None = None,
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
    with open_demos(path) as file:
        env_args = read_env_args(data_group(file, path), path)
        episodes: list[TensorDict] = []
        for name in episode_names(file, path, filter_key)[:max_episodes]:
            where = f"{path}: {name}"
            group = episode_group(file, path, name)
            keys = keys or observation_names(stored_observations(group, where))
            episode = _read_episode(group, keys, env_args, where)
            stack_frames(episode, frame_stack, state_stack)
            if episodes:
                _check_same_shapes(episode, episodes[0], where)
            episodes.append(episode)
    if not any(bool(episode[NEXT, SUCCESS][-1]) for episode in episodes):
        raise UsageError(
            f"{path}: none of {len(episodes)} episodes reaches a reward of 1, which marks success; "
            "record successful episodes"
        )
    return Demos(episodes, env_args, path)


def _read_episode(
    group: h5py.Group, keys: Sequence[str], env_args: Mapping[str, Any], where: str
) -> TensorDict:
    actions = read_episode_actions(group, where)
    length = len(actions.executed)
    rewards = read_rewards(group, where, length)

    def read(folder: str, key: str) -> np.ndarray:
        return read_observation(group, folder, key, env_args, where, length)

    observations = {key: read("obs", key) for key in keys}
    # Files with next_obs may lack those of images, to store them once.
    stored = {
        key
        for key, values in observations.items()
        if get_node(group, "next_obs") is not None
        and (values.dtype != np.uint8 or get_node(group, f"next_obs/{key}") is not None)
    }
    next_observations = {
        key: read("next_obs", key) if key in stored else np.concatenate([values[1:], values[-1:]])
        for key, values in observations.items()
    }

    successes = np.flatnonzero(rewards)
    if len(successes):
        length = int(successes[0]) + 1
    elif len(stored) < len(keys):
        length -= 1
        if length == 0:
            raise UsageError(f"{where}: a single step without success needs next_obs; remove it")
    return _to_tensordict(observations, actions, rewards, next_observations, length)


def _to_tensordict(
    observations: Mapping[str, np.ndarray],
    actions: EpisodeActions,
    rewards: np.ndarray,
    next_observations: Mapping[str, np.ndarray],
    length: int,
) -> TensorDict:
    """First ``length`` steps in TorchRL's layout, the last one done."""
    reward = torch.from_numpy(rewards[:length]).float().unsqueeze(-1)
    success = reward == 1
    done = torch.zeros_like(success)
    done[-1] = True
    false = torch.zeros_like(success)
    labels = {} if actions.labels is None else {EXPERT_ACTION: actions.labels}
    return TensorDict(
        {
            **{key: _to_tensor(value[:length]) for key, value in observations.items()},
            **{
                key: torch.from_numpy(value[:length]).float()
                for key, value in {ACTION: actions.executed, **labels}.items()
            },
            SUCCESS: false,
            DONE: false.clone(),
            TERMINATED: false.clone(),
            TRUNCATED: false.clone(),
            NEXT: {
                **{key: _to_tensor(value[:length]) for key, value in next_observations.items()},
                REWARD: reward,
                SUCCESS: success,
                DONE: done,
                TERMINATED: success.clone(),
                TRUNCATED: done & ~success,
            },
        },
        batch_size=[length],
    )


def _to_tensor(values: np.ndarray) -> torch.Tensor:
    """Convert an observation; images are permuted from [T, H, W, C] to [T, C, H, W]."""
    tensor = torch.from_numpy(values)
    is_image = tensor.dtype == torch.uint8 and tensor.ndim == 4
    return tensor.permute(0, 3, 1, 2).contiguous() if is_image else tensor


def _check_same_shapes(episode: TensorDict, first: TensorDict, where: str) -> None:
    keys = observation_keys(first)
    for key in [ACTION, *keys, *((NEXT, key) for key in keys)]:
        shape, expected = list(episode[key].shape[1:]), list(first[key].shape[1:])
        if shape != expected:
            name = key if isinstance(key, str) else f"next_obs/{key[1]}"
            raise UsageError(
                f"{where}: {name} has shape {shape} per step, the first episode has {expected}; "
                "record all episodes in one environment"
            )
