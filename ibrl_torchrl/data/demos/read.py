"""Load demonstrations: robomimic's HDF5 layout, LeRobot's and Minari's datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tensordict import NestedKey, TensorDict

from ibrl_torchrl.data.demos.arrays import EpisodeArrays, Selection, to_episode
from ibrl_torchrl.data.demos.dataset import Demos
from ibrl_torchrl.data.demos.key_map import KeyMap
from ibrl_torchrl.data.demos.lerobot_read import read_lerobot, read_lerobot_description
from ibrl_torchrl.data.demos.minari import read_minari, read_minari_description
from ibrl_torchrl.data.demos.robomimic_read import read_robomimic, read_robomimic_description
from ibrl_torchrl.data.formats import is_lerobot, is_minari, unknown_folder
from ibrl_torchrl.envs.env_args import with_action_bounds
from ibrl_torchrl.episodes import observation_keys, stack_frames
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import ACTION, NEXT, SUCCESS


def load_demos(
    path: str | Path,
    *,
    keys: Sequence[str] | None = None,
    key_map: KeyMap | None = None,
    max_episodes: int | None = None,
    filter_key: str | None = None,
    action_bounds: tuple[np.ndarray, np.ndarray] | None = None,
    frame_stack: int = 1,
    state_stack: int = 1,
) -> Demos:
    """Load and validate demonstrations.

    Formats are robomimic's HDF5 layout (``dataset.py``), folders of LeRobot's datasets of versions
    2.0, 2.1 and 3.0 (``lerobot.py``, extra ``lerobot``) and of Minari's (``minari.py``).

    Episodes are in the order of their numbers and end at their first reward of 1; files may
    continue for several steps after success. Values are converted to float32; images stay uint8,
    [T, C, H, W]. Without ``next_obs`` in the file, the following ``obs`` replaces it. The last step
    has none: if it succeeds, its own ``obs`` is repeated, from which no target bootstraps;
    otherwise the step is dropped.

    ``action`` is the executed one, in [-1, 1] or within the bounds that the file states. Where the
    file has ``executed_actions``, as DAgger's has, its ``actions`` are the expert's labels, and
    become ``expert_action``.

    Args:
        path: HDF5 file, or folder of a dataset.
        keys: observation keys to read; None (default) reads all keys of the first episode.
        key_map: names of the file's arrays that make up an observation, concatenated in this order,
            such as ``{"state": ["ee_pos", "gripper", "object_pose"]}``; of an image a single one,
            channels last or first. None (default): observations have the file's names.
        max_episodes: maximum number of episodes, the first ones; None (default) reads all.
        filter_key: filter key of the file, such as ``"train"``, or split of a dataset of LeRobot;
            None (default) reads all episodes.
        action_bounds: bounds (low, high) of the dataset's actions, float32 [A], where it states
            none and they are not -1 and 1, such as those of a robot's joints. Default None.
        frame_stack: images in each observation of an image key, the newest last; at the start of
            an episode its first image is repeated. Default 1.
        state_stack: observations stacked for every other key; zeros at the start. Default 1.

    Returns:
        The episodes, the file's ``env_args`` and its path.

    Raises:
        UsageError: the file is missing, damaged, or not in robomimic's layout; it has no such
            filter key; an episode lacks a key, has inconsistent lengths or shapes, values that are
            not finite or actions outside their bounds; or no episode succeeds.
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
    env_args = with_action_bounds(read_description(path), action_bounds)
    episodes: list[TensorDict] = []
    selection = Selection(
        keys, key_map or {}, filter_key, max_episodes, action_bounds=action_bounds
    )
    for episode in read_episodes(path, selection):
        stack_frames(episode, frame_stack, state_stack)
        episodes.append(episode)
    if not any(bool(episode[NEXT, SUCCESS][-1]) for episode in episodes):
        raise UsageError(
            f"{path}: none of {len(episodes)} episodes reaches a reward of 1, which marks success; "
            "record successful episodes"
        )
    return Demos(episodes, env_args, path)


class _Format(NamedTuple):
    """Format of datasets.

    Attributes:
        matches: whether a path is one of this format.
        description: reads the description of the environment, in robomimic's format.
        arrays: reads episodes one at a time, each with its place for messages.
    """

    matches: Callable[[Path], bool]
    description: Callable[[Path], dict[str, Any]]
    arrays: Callable[[Path, Selection], Iterator[tuple[str, EpisodeArrays]]]


_FORMATS = (
    _Format(is_lerobot, read_lerobot_description, read_lerobot),
    _Format(is_minari, read_minari_description, read_minari),
)
_ROBOMIMIC = _Format(lambda path: True, read_robomimic_description, read_robomimic)


def _format_of(path: Path) -> _Format:
    """Format of a path.

    Raises:
        UsageError: a folder is in no known format.
    """
    if not path.is_dir():
        return _ROBOMIMIC
    for each in _FORMATS:
        if each.matches(path):
            return each
    raise unknown_folder(path)


def read_description(path: Path) -> dict[str, Any]:
    """Read the description of a dataset's environment, in robomimic's format; may be empty.

    Raises:
        UsageError: the dataset is missing or damaged, or in no known format.
    """
    return _format_of(path).description(path)


def read_episodes(path: Path, selection: Selection) -> Iterator[TensorDict]:
    """Read the episodes of a dataset one at a time, see :func:`load_demos`.

    Args:
        path: file or folder.
        selection: what to read.

    Yields:
        TensorDicts [T], of equal shapes, successful or not. With ``selection.with_states`` they
        have ``simulator_state`` and ``model_xml``, where the dataset has them.

    Raises:
        UsageError: see there.
    """
    expected: dict[NestedKey, torch.Size] = {}
    for where, arrays in _format_of(path).arrays(path, selection):
        episode = to_episode(arrays, where)
        expected = expected or _step_shapes(episode)
        _check_shapes(episode, expected, where)
        yield episode


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
