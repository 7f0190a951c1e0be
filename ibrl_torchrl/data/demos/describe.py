"""What a file of demonstrations holds, without its arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ibrl_torchrl.data.demos.hdf5 import (
    data_group,
    episode_names,
    filter_keys,
    open_demos,
    read_actions,
    read_env_args,
)


@dataclass(frozen=True)
class DemoDescription:
    """What a file holds, without its arrays.

    Attributes:
        env_args: what rebuilds the environment; empty if the file does not say.
        episodes: their names, in order.
        lengths: their numbers of steps.
        successes: how many reach a reward of 1; None if there are no rewards.
        action_size: numbers of an action.
        action_range: smallest and largest of them.
        observations: shape and type of each stored array of observations.
        filters: the named lists of episodes.
        has_states: every episode has simulator states.
        has_models: every episode has the simulator's model.
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


def describe_demos(path: str | Path, filter_key: str | None = None) -> DemoDescription:
    """Read what a file holds.

    Args:
        path: the file; robomimic's raw files will do.
        filter_key: name of a list of episodes in the file; None describes all.

    Raises:
        UsageError: the file is missing, damaged, or not in this layout.
    """
    path = Path(path)
    with open_demos(path) as file:
        data = data_group(file, path)
        names = episode_names(file, path, filter_key)
        groups = [data[name] for name in names]
        actions = [
            read_actions(group, f"{path}: {name}")
            for name, group in zip(names, groups, strict=True)
        ]
        return DemoDescription(
            env_args=read_env_args(data, path),
            episodes=names,
            lengths=[len(each) for each in actions],
            successes=sum(bool(group["rewards"][()].max() == 1) for group in groups)
            if all("rewards" in group for group in groups)
            else None,
            action_size=actions[0].shape[1],
            action_range=(
                min(float(each.min()) for each in actions),
                max(float(each.max()) for each in actions),
            ),
            observations={
                key: f"{list(array.shape[1:])} {array.dtype}"
                for key, array in groups[0].get("obs", {}).items()
            },
            filters=filter_keys(file),
            has_states=all("states" in group for group in groups),
            has_models=all("model_file" in group.attrs for group in groups),
        )
