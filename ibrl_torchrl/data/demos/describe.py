"""Contents of a demonstration file, without its arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from ibrl_torchrl.data.demos.hdf5 import (
    EXECUTED_ACTIONS,
    episode_group,
    episode_names,
    filter_keys,
    read_actions,
    read_env_args,
    read_success,
)
from ibrl_torchrl.data.formats import data_group, open_demos
from ibrl_torchrl.data.nodes import get_node
from ibrl_torchrl.errors import brief


@dataclass(frozen=True)
class DemoDescription:
    """Contents of a demonstration file, without its arrays.

    Attributes:
        env_args: robomimic's description of the environment; empty if the file has none.
        episodes: names, in numerical order.
        lengths: steps of each episode.
        successes: number of episodes that reach a reward of 1; None if there are no rewards.
        action_size: dimensions of an action.
        action_range: minimum and maximum over all actions.
        observations: shape and dtype of each stored observation.
        filters: episode names of each filter key.
        has_states: every episode has simulator states.
        has_models: every episode has the simulator's model (MJCF XML).
        num_labelled: episodes whose actions are labels of an expert, where others were executed.
    """

    env_args: dict[str, Any]
    episodes: list[str]
    lengths: list[int]
    successes: int | None
    action_size: int
    action_range: tuple[float, float]
    observations: dict[str, str]
    filters: dict[str, list[str]]
    has_states: bool
    has_models: bool
    num_labelled: int


def describe_demos(path: str | Path, filter_key: str | None = None) -> DemoDescription:
    """Read the contents of a demonstration file.

    Args:
        path: the file; robomimic's raw files, without observations, are accepted.
        filter_key: filter key of the file, such as ``"train"``; None describes all episodes.

    Raises:
        UsageError: the file is missing, damaged, or not in robomimic's layout.
    """
    path = Path(path)
    with open_demos(path) as file:
        data = data_group(file, path)
        names = episode_names(file, path, filter_key)
        groups = [episode_group(file, path, name) for name in names]
        wheres = [f"{path}: {name}" for name in names]
        env_args = read_env_args(data, path)
        actions = [
            read_actions(group, env_args, where)
            for group, where in zip(groups, wheres, strict=True)
        ]
        return DemoDescription(
            env_args=env_args,
            episodes=names,
            lengths=[len(array) for array in actions],
            successes=sum(
                read_success(group, where, len(array))
                for group, where, array in zip(groups, wheres, actions, strict=True)
            )
            if all(get_node(group, "rewards") is not None for group in groups)
            else None,
            action_size=actions[0].shape[1],
            action_range=(
                min(float(array.min()) for array in actions),
                max(float(array.max()) for array in actions),
            ),
            observations=_shapes(get_node(groups[0], "obs")),
            filters=filter_keys(file),
            has_states=all(get_node(group, "states") is not None for group in groups),
            has_models=all("model_file" in group.attrs for group in groups),
            num_labelled=sum(get_node(group, EXECUTED_ACTIONS) is not None for group in groups),
        )


def _shapes(observations: h5py.Group | h5py.Dataset | None) -> dict[str, str]:
    """Shape of a step and dtype of each array of a group."""
    if not isinstance(observations, h5py.Group):
        return {}
    nodes = {brief(key): get_node(observations, key) for key in observations}
    return {
        key: f"{list(node.shape[1:])} {brief(node.dtype)}"
        for key, node in nodes.items()
        if isinstance(node, h5py.Dataset) and node.shape is not None
    }
