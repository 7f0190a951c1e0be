"""Demonstration files in robomimic's HDF5 layout.

::

    data                     attributes: total (transitions), env_args (JSON)
    data/demo_0              attribute: num_samples (T)
    data/demo_0/obs/KEY      [T, ...]  observation before each action
    data/demo_0/obs/CAMERA_image [T, H, W, 3]  uint8, right side up
    data/demo_0/next_obs/KEY [T, ...]  observation after it; images and other files lack it
    data/demo_0/actions      [T, A]    in [-1, 1]
    data/demo_0/rewards      [T]       1 at success
    data/demo_0/dones        [T]       1 at the end of the episode
    data/demo_0/states       [T, n]    simulator state before each action

Files are read as a whole or not at all: whatever is wrong with one is said before anything is
returned.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.envs import EnvBase

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import replacing
from ibrl_torchrl.keys import (
    ACTION,
    DONE,
    NEXT,
    REWARD,
    SIMULATOR_STATE,
    SUCCESS,
    TERMINATED,
    TRUNCATED,
)

_OUTCOMES = {REWARD, DONE, TERMINATED, TRUNCATED, SUCCESS}


@dataclass(frozen=True)
class Demos:
    """The episodes of one file.

    Attributes:
        episodes: one TensorDict [T] per episode in TorchRL's layout, float32 and bool. Each ends
            at its first success, which terminates it; one without success ends truncated.
        env_args: what rebuilds the environment (``env_name``, ``type``, ``env_kwargs``); empty if
            the file does not say.
        path: the file they were read from.
    """

    episodes: list[TensorDict]
    env_args: dict[str, Any]
    path: Path

    def summary(self) -> dict[str, Any]:
        """Counts and shapes, ready for JSON.

        Returns:
            ``episodes``, ``transitions``, ``length_min``, ``length_mean``, ``length_max``,
            ``success_rate`` in [0, 1], ``action_size``, and ``observations``, the shape of each
            observation key.
        """
        lengths = [len(episode) for episode in self.episodes]
        successes = [bool(episode[NEXT, SUCCESS][-1]) for episode in self.episodes]
        first = self.episodes[0]
        return {
            "episodes": len(lengths),
            "transitions": sum(lengths),
            "length_min": min(lengths),
            "length_mean": sum(lengths) / len(lengths),
            "length_max": max(lengths),
            "success_rate": sum(successes) / len(successes),
            "action_size": first[ACTION].shape[-1],
            "observations": {key: list(first[key].shape[1:]) for key in observation_keys(first)},
        }


def observation_keys(episode: TensorDictBase) -> list[str]:
    """The keys of an episode that hold observations, sorted; ``success`` counts as an outcome."""
    return sorted(set(episode[NEXT].keys()) - _OUTCOMES)


def save_demos(
    path: str | Path, episodes: Iterable[TensorDictBase], env_args: Mapping[str, Any]
) -> None:
    """Write episodes to a file, which appears only once it is complete.

    Args:
        path: file to write; an existing one is replaced, missing folders are made.
        episodes: as ``record_demos`` yields them; the file grows with each, so a generator will
            do.
        env_args: what rebuilds the environment, such as ``env.env_args``.

    Raises:
        ValueError: there are no episodes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished, h5py.File(unfinished, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(dict(env_args))
        total = 0
        for index, episode in enumerate(episodes):
            _write_episode(data.create_group(f"demo_{index}"), episode)
            total += len(episode)
        data.attrs["total"] = total
        if total == 0:
            raise ValueError(f"no episodes to save to {path}")


def _write_episode(group: h5py.Group, episode: TensorDictBase) -> None:
    episode = episode.cpu()
    group.attrs["num_samples"] = len(episode)
    for key in observation_keys(episode):
        if episode[key].dtype == torch.uint8:
            images = episode[key].permute(0, 2, 3, 1).numpy()
            group.create_dataset(f"obs/{key}", data=images, compression="gzip")
        else:
            group[f"obs/{key}"] = episode[key].numpy()
            group[f"next_obs/{key}"] = episode[NEXT, key].numpy()
    group["actions"] = episode[ACTION].numpy()
    group["rewards"] = episode[NEXT, REWARD].squeeze(-1).numpy()
    group["dones"] = episode[NEXT, DONE].squeeze(-1).long().numpy()
    group["states"] = episode[SIMULATOR_STATE].numpy()


def load_demos(
    path: str | Path,
    *,
    keys: Sequence[str] | None = None,
    max_episodes: int | None = None,
    frame_stack: int = 1,
) -> Demos:
    """Read and check the episodes of a file.

    Episodes come in the order of their numbers. Each is cut after its first reward of 1: files
    may hold success for several steps more. Numbers become float32; images stay uint8 and become
    [T, C, H, W]. Where the file has no ``next_obs``, the following ``obs`` takes its place. The
    last step then has none: if it succeeds, its own ``obs`` is repeated, which no bootstrap ever
    looks at; otherwise the step is dropped.

    Args:
        path: the file.
        keys: observation keys to read; None reads all that the first episode has.
        max_episodes: read at most so many, from the first on; None reads all.
        frame_stack: images in each observation of an image key, the newest last; before the start
            of an episode its first image is repeated. Default 1.

    Raises:
        UsageError: the file is missing, damaged, or not in this layout; an episode lacks a key,
            has lengths or shapes that disagree, values that are not finite or actions outside
            [-1, 1]; or no episode succeeds.
        ValueError: ``max_episodes`` is below 1.
    """
    if max_episodes is not None and max_episodes < 1:
        raise ValueError(f"max_episodes must be at least 1, found {max_episodes}")
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such file; check the path or record demonstrations first")
    try:
        with h5py.File(path) as file:
            data = _data_group(file, path)
            env_args = _read_env_args(data, path)
            episodes: list[TensorDict] = []
            for name in _episode_names(data, path)[:max_episodes]:
                where = f"{path}: {name}"
                keys = keys or _stored_observations(data[name], where)
                episode = _read_episode(data[name], keys, where)
                _stack_images(episode, frame_stack)
                if episodes:
                    _check_same_shapes(episode, episodes[0], where)
                episodes.append(episode)
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        # h5py answers damage with any of these, depending on which byte is wrong.
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{path}: not a readable HDF5 file, copy or record it again ({reason})"
        ) from error
    if not any(bool(episode[NEXT, SUCCESS][-1]) for episode in episodes):
        raise UsageError(
            f"{path}: none of {len(episodes)} episodes reaches a reward of 1, which marks success; "
            "record successful episodes"
        )
    return Demos(episodes, env_args, path)


def _data_group(file: h5py.File, path: Path) -> h5py.Group:
    data = file.get("data")
    if not isinstance(data, h5py.Group):
        raise UsageError(
            f"{path}: no group 'data', found {_listed(file)}; this is not robomimic's layout"
        )
    return data


def _read_env_args(data: h5py.Group, path: Path) -> dict[str, Any]:
    try:
        env_args = json.loads(data.attrs.get("env_args", "{}"))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: the attribute env_args is not JSON ({error})") from error
    if not isinstance(env_args, dict):
        raise UsageError(f"{path}: the attribute env_args is not a JSON object")
    return env_args


def _episode_names(data: h5py.Group, path: Path) -> list[str]:
    # HDF5 lists demo_10 before demo_2.
    names = [name for name in data if re.fullmatch(r"demo_\d+", name)]
    names = [name for name in names if isinstance(data[name], h5py.Group)]
    if not names:
        raise UsageError(f"{path}: no episodes demo_0, demo_1, ..., found {_listed(data)}")
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def _stored_observations(group: h5py.Group, where: str) -> list[str]:
    observations = group.get("obs")
    if not isinstance(observations, h5py.Group) or not len(observations):
        raise UsageError(
            f"{where}: no observations under 'obs', found {_listed(group)}; "
            "raw robomimic files need them extracted first"
        )
    return sorted(observations)


def _read_episode(group: h5py.Group, keys: Sequence[str], where: str) -> TensorDict:
    actions = _read(group, "actions", where)
    length = len(actions)
    if actions.ndim != 2 or length == 0:
        raise UsageError(f"{where}: actions need shape [T, A], found {list(actions.shape)}")
    beyond = np.argwhere(np.abs(actions) > 1)
    if len(beyond):
        step, dimension = beyond[0]
        raise UsageError(
            f"{where}: actions must lie in [-1, 1], found {actions[step, dimension]:g} "
            f"at step {step}, dimension {dimension}; rescale them"
        )
    rewards = _read(group, "rewards", where, length)
    if rewards.ndim != 1:
        raise UsageError(f"{where}: rewards need shape [T], found {list(rewards.shape)}")
    other = np.flatnonzero((rewards != 0) & (rewards != 1))
    if len(other):
        raise UsageError(
            f"{where}: rewards must be 1 at success and else 0, found {rewards[other[0]]:g} "
            f"at step {other[0]}; use the sparse version of the file"
        )
    before = {key: _read(group, f"obs/{key}", where, length) for key in keys}
    # Images are stored once, so they may be missing where numbers may not.
    stored = {
        key
        for key, value in before.items()
        if "next_obs" in group and (value.dtype != np.uint8 or f"next_obs/{key}" in group)
    }
    after = {
        key: _read(group, f"next_obs/{key}", where, length)
        if key in stored
        else np.concatenate([value[1:], value[-1:]])
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


def _stack_images(episode: TensorDict, frames: int) -> None:
    """Replace each image [C, H, W] by the last ``frames`` images [frames * C, H, W]."""
    for key in observation_keys(episode):
        if frames == 1 or episode[key].dtype != torch.uint8:
            continue
        images = torch.cat([episode[key], episode[NEXT, key][-1:]])
        ages = torch.arange(frames - 1, -1, -1)
        index = (torch.arange(len(images))[:, None] - ages).clamp_min(0)
        stacked = images[index].flatten(1, 2)
        episode[key], episode[NEXT, key] = stacked[:-1], stacked[1:]


def _read(group: h5py.Group, key: str, where: str, length: int | None = None) -> np.ndarray:
    """One array of an episode, float32 or uint8, checked; ``length`` is what it must have."""
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
        array = array.astype(np.float32)
    broken = np.argwhere(~np.isfinite(array))
    if len(broken):
        index = tuple(broken[0].tolist())
        raise UsageError(f"{where}: {key} holds {array[index]} at index {list(index)}")
    return array


def _listed(group: h5py.Group | None) -> str:
    return (", ".join(group) if isinstance(group, h5py.Group) else "") or "nothing"


def _check_same_shapes(episode: TensorDict, first: TensorDict, where: str) -> None:
    keys = observation_keys(first)
    for key in [ACTION, *keys, *((NEXT, key) for key in keys)]:
        found, expected = list(episode[key].shape[1:]), list(first[key].shape[1:])
        if found != expected:
            name = key if isinstance(key, str) else f"next_obs/{key[1]}"
            raise UsageError(
                f"{where}: {name} has shape {found} per step, the first episode has {expected}"
            )


def check_demos_match(demos: Demos, env: EnvBase) -> None:
    """Refuse demonstrations that were not made in an environment's task.

    Compares the task, the action repeat and, if images were loaded, the render quality, where both
    sides name them, the size of the actions, and the shape of each observation that was loaded.

    Args:
        demos: as loaded.
        env: the environment to act in, not a batch of them.

    Raises:
        UsageError: they differ; the message names both values.
    """
    recorded, present = demos.summary(), dict(env.observation_spec.items())
    names = ["action_repeat"]
    if any(key.endswith("_image") for key in recorded["observations"]):
        names.append("render_quality")
    found = {"action size": recorded["action_size"], **_task(demos.env_args, names)}
    wanted = {
        "action size": env.action_spec.shape[-1],
        **_task(getattr(env, "env_args", {}), names),
    }
    for key, shape in recorded["observations"].items():
        if key not in present:
            raise UsageError(
                f"{demos.path}: the environment has no observation {key!r}, it has "
                f"{', '.join(present)}; load the keys that both have"
            )
        found[f"shape of {key}"] = shape
        wanted[f"shape of {key}"] = list(present[key].shape)
    for name in sorted(found.keys() & wanted.keys()):
        if found[name] != wanted[name]:
            raise UsageError(
                f"{demos.path}: recorded with {name} {found[name]}, "
                f"the environment has {wanted[name]}"
            )


def _task(env_args: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The task of ``env_args`` and those of its ``env_kwargs`` that are named and present."""
    settings = env_args.get("env_kwargs", {})
    parts = {"task": env_args.get("env_name"), **{name: settings.get(name) for name in names}}
    return {name: value for name, value in parts.items() if value is not None}
