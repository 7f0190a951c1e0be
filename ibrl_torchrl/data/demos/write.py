"""Save demonstrations in robomimic's HDF5 layout, see ``dataset.py``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import torch
from tensordict import TensorDictBase, is_tensor_collection
from torchrl.envs import EnvBase

from ibrl_torchrl.data.demos.hdf5 import (
    ACTIONS,
    EXECUTED_ACTIONS,
    episode_names,
    read_env_args,
)
from ibrl_torchrl.data.demos.robomimic import split_parts
from ibrl_torchrl.data.formats import data_group
from ibrl_torchrl.envs.env_args import env_args_of
from ibrl_torchrl.episodes import imitation_episode, observation_keys
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import atomic_path, reserve
from ibrl_torchrl.keys import (
    ACTION,
    DONE,
    EXPERT_ACTION,
    MODEL_XML,
    NEXT,
    REWARD,
    SIMULATOR_STATE,
)

_MARGIN = 1 << 20  # bytes reserved for what HDF5 writes beside an episode's arrays


def save_demos(
    path: str | Path,
    episodes: Iterable[TensorDictBase],
    env_args: Mapping[str, Any] | EnvBase,
) -> None:
    """Save demonstrations to a file, atomically.

    Args:
        path: file to write; an existing one is replaced, missing folders are created.
        episodes: TensorDicts [T] as ``record_demos`` yields them, written one at a time: a
            generator of them is never in memory as a whole. With ``expert_action``, the labels of
            an expert, these are the file's ``actions`` and ``action`` its ``executed_actions``.
        env_args: robomimic's description of the environment, such as ``env.env_args``; or the
            environment, any of TorchRL, whose bounds of actions are then stored, too.

    Raises:
        ValueError: there are no episodes; an existing file is kept.
        UsageError: the folder cannot be written to, or the disk is full; an existing file is kept.
    """
    if isinstance(env_args, EnvBase):
        env_args = env_args_of(env_args)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as unfinished:
        with h5py.File(unfinished, "w", locking="best-effort") as file:
            reserve(unfinished, _MARGIN)
            data = file.create_group("data")
            data.attrs["env_args"] = json.dumps(dict(env_args))
            data.attrs["total"] = _write_episodes(data, episodes, env_args, unfinished)
            if data.attrs["total"] == 0:
                raise ValueError(f"no episodes to save to {path}; record at least one")
            size = _flushed_size(file)
        os.truncate(unfinished, size)


def _num_bytes(episode: TensorDictBase) -> int:
    """Bytes of an episode's arrays, uncompressed, and of its model."""
    model_xml = episode.get_non_tensor(MODEL_XML, default=None) or ""
    arrays = episode.exclude(MODEL_XML).values(True, True)
    return sum(values.nbytes for values in arrays) + len(model_xml)


def append_demos(path: Path, episodes: Iterable[TensorDictBase]) -> None:
    """Append episodes to a file of this package, atomically.

    Args:
        path: file that :func:`save_demos` wrote; the written one replaces it.
        episodes: TensorDicts [T] of the same environment, written one at a time.
    """
    with atomic_path(path) as unfinished:
        shutil.copyfile(path, unfinished)
        with h5py.File(unfinished, "r+", locking="best-effort") as file:
            data = data_group(file, path)
            first = len(episode_names(file, path))
            data.attrs["total"] += _write_episodes(
                data, episodes, read_env_args(data, path), unfinished, first=first
            )
            size = _flushed_size(file)
        os.truncate(unfinished, size)


def _write_episodes(
    data: h5py.Group,
    episodes: Iterable[TensorDictBase],
    env_args: Mapping[str, Any],
    path: Path,
    *,
    first: int = 0,
) -> int:
    """Write episodes with numbers from ``first``; returns the number of their transitions.

    HDF5 does not survive a full disk, it fails again when it closes the file: space is reserved.
    """
    total = 0
    for index, episode in enumerate(episodes, first):
        reserve(path, data.file.id.get_filesize() + _num_bytes(episode) + _MARGIN)
        _write_episode(data.create_group(f"demo_{index}"), episode, env_args)
        total += len(episode)
    return total


def _flushed_size(file: h5py.File) -> int:
    """Bytes that a file has without what was reserved beyond its end."""
    file.flush()
    return int(file.id.get_filesize())


def _write_episode(group: h5py.Group, episode: TensorDictBase, env_args: Mapping[str, Any]) -> None:
    episode = episode.cpu()
    group.attrs["num_samples"] = len(episode)
    if (model_xml := episode.get_non_tensor(MODEL_XML, default=None)) is not None:
        group.attrs["model_file"] = model_xml
    for key in observation_keys(episode):
        if is_tensor_collection(episode[key]):
            raise UsageError(
                f"the observation {key!r} is nested, which these files cannot hold; rename its "
                "entries, such as by TorchRL's RenameTransform"
            )
        if episode[key].dtype == torch.uint8:
            images = episode[key].permute(0, 2, 3, 1).numpy()
            group.create_dataset(f"obs/{key}", data=images, compression="gzip")
        else:
            for folder, values in (("obs", episode[key]), ("next_obs", episode[NEXT, key])):
                for name, part in split_parts(key, values.numpy(), env_args).items():
                    group[f"{folder}/{name}"] = part
    group[ACTIONS] = imitation_episode(episode)[ACTION].numpy()
    if EXPERT_ACTION in episode:
        group[EXECUTED_ACTIONS] = episode[ACTION].numpy()
    group["rewards"] = episode[NEXT, REWARD].squeeze(-1).numpy()
    group["dones"] = episode[NEXT, DONE].squeeze(-1).long().numpy()
    if SIMULATOR_STATE in episode:
        group["states"] = episode[SIMULATOR_STATE].numpy()
