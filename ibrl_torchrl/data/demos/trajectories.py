"""Demonstration trajectories with simulator states, for playback in the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ibrl_torchrl.data.demos.hdf5 import (
    episode_group,
    episode_names,
    read_env_args,
    read_episode_actions,
    read_observation,
    read_rewards,
    read_states,
)
from ibrl_torchrl.data.demos.robomimic import stored_parts
from ibrl_torchrl.data.formats import data_group, open_demos
from ibrl_torchrl.data.nodes import get_node, read_text
from ibrl_torchrl.keys import STATE


@dataclass(frozen=True)
class DemoTrajectory:
    """Recorded trajectory with the simulator states that playback starts from.

    Attributes:
        name: group in the file, such as ``"demo_0"``.
        actions: executed actions, float32 [T, A].
        simulator_states: states before each action, float64 [T, n].
        rewards: float32 [T]; None if the file has none, as robomimic's raw files.
        states: observations ``state``, float32 [T, S]; None if the file has none.
        model_xml: the simulator's model (MJCF XML); None if the file has none.
        expert_actions: labels of the expert, float32 [T, A]; None (default) where the actions are
            the demonstrator's.
    """

    name: str
    actions: np.ndarray
    simulator_states: np.ndarray
    rewards: np.ndarray | None
    states: np.ndarray | None
    model_xml: str | None
    expert_actions: np.ndarray | None = None

    @property
    def is_success(self) -> bool:
        """Whether its rewards reach 1; files without rewards hold successes."""
        return self.rewards is None or bool(self.rewards.max() == 1)


def read_trajectories(
    path: str | Path, *, filter_key: str | None = None, max_episodes: int | None = None
) -> Iterator[DemoTrajectory]:
    """Read the trajectories of a file one at a time.

    Args:
        path: the file; robomimic's raw files, without observations, are accepted.
        filter_key: filter key of the file, such as ``"train"``; None reads all episodes.
        max_episodes: maximum number of episodes; None reads all.

    Yields:
        Trajectories in the order of their numbers.

    Raises:
        UsageError: the file is missing or damaged, or an episode lacks simulator states.
    """
    path = Path(path)
    with open_demos(path) as file:
        env_args = read_env_args(data_group(file, path), path)
        for name in episode_names(file, path, filter_key)[:max_episodes]:
            where, group = f"{path}: {name}", episode_group(file, path, name)
            actions = read_episode_actions(group, env_args, where)
            length = len(actions.executed)
            yield DemoTrajectory(
                name,
                actions.executed,
                read_states(group, where, length),
                read_rewards(group, where, length)
                if get_node(group, "rewards") is not None
                else None,
                read_observation(group, "obs", STATE, env_args, where, length)
                if _has_state(group)
                else None,
                read_text(group.attrs, "model_file"),
                actions.labels,
            )


def _has_state(group: h5py.Group) -> bool:
    stored = [*(get_node(group, "obs") or ())]
    return STATE in stored or stored_parts(STATE, stored) != [STATE]
