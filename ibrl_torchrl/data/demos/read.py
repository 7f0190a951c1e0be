"""Demonstrations from robomimic's HDF5 layout, which ``demos.py`` describes."""

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
    data_group,
    episode_names,
    open_demos,
    read_actions,
    read_env_args,
    read_observation,
    read_rewards,
    stored_observations,
)
from ibrl_torchrl.data.demos.robomimic import observation_names
from ibrl_torchrl.episodes import observation_keys, stack_frames
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import ACTION, DONE, NEXT, REWARD, SUCCESS, TERMINATED, TRUNCATED


def load_demos(
    path: str | Path,
    *,
    keys: Sequence[str] | None = None,
    max_episodes: int | None = None,
    filter_key: str | None = None,
    frame_stack: int = 1,
    state_stack: int = 1,
) -> Demos:
    """Read and check the episodes of a file, as a whole or not at all.

    Episodes come in the order of their numbers. Each is cut after its first reward of 1: files
    may hold success for several steps more. Numbers become float32; images stay uint8 and become
    [T, C, H, W]. Where the file has no ``next_obs``, the following ``obs`` takes its place. The
    last step then has none: if it succeeds, its own ``obs`` is repeated, which no bootstrap ever
    looks at; otherwise the step is dropped.

    Args:
        path: the file.
        keys: observation keys to read; None reads all that the first episode has.
        max_episodes: read at most so many, from the first on; None reads all.
        filter_key: name of a list of episodes in the file, such as ``"train"``; None reads all.
        frame_stack: images in each observation of an image key, the newest last; before the start
            of an episode its first image is repeated. Default 1.
        state_stack: likewise for everything else; before the start there are zeros. Default 1.

    Raises:
        UsageError: the file is missing, damaged, or not in this layout; it has no such list; an
            episode lacks a key, has lengths or shapes that disagree, values that are not finite or
            actions outside [-1, 1]; or no episode succeeds.
        ValueError: ``max_episodes`` is below 1.
    """
    if max_episodes is not None and max_episodes < 1:
        raise ValueError(f"max_episodes must be at least 1, found {max_episodes}")
    path = Path(path)
    with open_demos(path) as file:
        data = data_group(file, path)
        env_args = read_env_args(data, path)
        episodes: list[TensorDict] = []
        for name in episode_names(file, path, filter_key)[:max_episodes]:
            where = f"{path}: {name}"
            keys = keys or observation_names(stored_observations(data[name], where))
            episode = _read_episode(data[name], keys, env_args, where)
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
    actions = read_actions(group, where)
    length = len(actions)
    rewards = read_rewards(group, where, length)

    def observed(folder: str, key: str) -> np.ndarray:
        return read_observation(group, folder, key, env_args, where, length)

    before = {key: observed("obs", key) for key in keys}
    # Images are stored once, so they may be missing where numbers may not.
    stored = {
        key
        for key, value in before.items()
        if "next_obs" in group and (value.dtype != np.uint8 or f"next_obs/{key}" in group)
    }
    after = {
        key: observed("next_obs", key) if key in stored else np.concatenate([value[1:], value[-1:]])
        for key, value in before.items()
    }

    successes = np.flatnonzero(rewards)
    if len(successes):
        length = int(successes[0]) + 1
    elif len(stored) < len(keys):
        length -= 1
        if length == 0:
            raise UsageError(f"{where}: a single step without success needs next_obs")
    return _to_tensordict(before, actions, rewards, after, length)


def _to_tensordict(
    before: Mapping[str, np.ndarray],
    actions: np.ndarray,
    rewards: np.ndarray,
    after: Mapping[str, np.ndarray],
    length: int,
) -> TensorDict:
    """The first ``length`` steps in TorchRL's layout; the last one ends the episode."""
    reward = torch.from_numpy(rewards[:length]).float().unsqueeze(-1)
    success = reward == 1
    done = torch.zeros_like(success)
    done[-1] = True
    never = torch.zeros_like(success)
    return TensorDict(
        {
            **{key: _tensor(value[:length]) for key, value in before.items()},
            ACTION: torch.from_numpy(actions[:length]).float(),
            SUCCESS: never,
            DONE: never.clone(),
            TERMINATED: never.clone(),
            TRUNCATED: never.clone(),
            NEXT: {
                **{key: _tensor(value[:length]) for key, value in after.items()},
                REWARD: reward,
                SUCCESS: success,
                DONE: done,
                TERMINATED: success.clone(),
                TRUNCATED: done & ~success,
            },
        },
        batch_size=[length],
    )


def _tensor(values: np.ndarray) -> torch.Tensor:
    """An observation as a tensor; images [T, H, W, C] become [T, C, H, W]."""
    tensor = torch.from_numpy(values)
    is_image = tensor.dtype == torch.uint8 and tensor.ndim == 4
    return tensor.permute(0, 3, 1, 2).contiguous() if is_image else tensor


def _check_same_shapes(episode: TensorDict, first: TensorDict, where: str) -> None:
    keys = observation_keys(first)
    for key in [ACTION, *keys, *((NEXT, key) for key in keys)]:
        found, expected = list(episode[key].shape[1:]), list(first[key].shape[1:])
        if found != expected:
            name = key if isinstance(key, str) else f"next_obs/{key[1]}"
            raise UsageError(
                f"{where}: {name} has shape {found} per step, the first episode has {expected}"
            )
