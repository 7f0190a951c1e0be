"""Arrays of a recorded episode as a TensorDict in TorchRL's layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from tensordict import TensorDict

from ibrl_torchrl.data.demos.key_map import KeyMap
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


@dataclass(frozen=True)
class Selection:
    """What to read of a dataset.

    Attributes:
        keys: observation keys; None (default) for all that the first episode has.
        key_map: names of the dataset's arrays that make up an observation. Default none.
        filter_key: name of a list of episodes; None (default) for all episodes.
        max_episodes: number of episodes, the first ones; None (default) for all.
        with_states: read simulator states and models, too, where there are any. Default False.
        action_bounds: bounds (low, high) of the dataset's actions, float32 [A]; None (default):
            those that it states, or else -1 and 1.
    """

    keys: Sequence[str] | None = None
    key_map: KeyMap = field(default_factory=dict)
    filter_key: str | None = None
    max_episodes: int | None = None
    with_states: bool = False
    action_bounds: tuple[np.ndarray, np.ndarray] | None = None


class EpisodeActions(NamedTuple):
    """Actions of an episode.

    Attributes:
        executed: actions that led to the next observations, float32 [T, A] within the bounds.
        labels: the expert's actions at the same observations, where other ones were executed
            (DAgger); None where the demonstrator's were.
    """

    executed: np.ndarray
    labels: np.ndarray | None


def labelled_actions(
    executed: np.ndarray, labels: np.ndarray, where: str, name: str
) -> EpisodeActions:
    """Executed actions and the expert's labels, which are as many.

    Args:
        executed: float32 [T, A].
        labels: float32 [T, A].
        where: file and episode, for messages.
        name: name of the executed actions in the file, for messages.

    Raises:
        UsageError: their shapes differ.
    """
    if executed.shape != labels.shape:
        raise UsageError(
            f"{where}: {name} has shape {list(executed.shape)}, actions have "
            f"{list(labels.shape)}; record the episode again"
        )
    return EpisodeActions(executed, labels)


@dataclass(frozen=True)
class EpisodeArrays:
    """Arrays of an episode, in whichever format it was stored.

    Attributes:
        observations: observation before each action by its key, float32 [T, ...], images uint8
            [T, H, W, C].
        actions: executed actions and labels.
        rewards: float32 [T], 1 at success and else 0.
        next_observations: observation after each action, of those keys that the file has them of.
            Default none.
        extras: other arrays [T, ...] for the root of the TensorDict, such as simulator states.
        texts: non-tensor entries of the whole episode.
    """

    observations: Mapping[str, np.ndarray]
    actions: EpisodeActions
    rewards: np.ndarray
    next_observations: Mapping[str, np.ndarray] = field(default_factory=dict)
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


def to_episode(arrays: EpisodeArrays, where: str) -> TensorDict:
    """Episode in TorchRL's layout, which ends at its first success.

    A missing next observation is the following one. The last step has none: if it succeeds, its
    own observation is repeated, from which no target bootstraps; otherwise the step is dropped.

    Args:
        arrays: arrays of the episode.
        where: file and episode, for messages.

    Returns:
        TensorDict [T], whose last step is done: terminated by success, else truncated.

    Raises:
        UsageError: nothing is left of the episode.
    """
    after = {
        key: arrays.next_observations.get(key, np.concatenate([values[1:], values[-1:]]))
        for key, values in arrays.observations.items()
    }
    length = len(arrays.rewards)
    successes = np.flatnonzero(arrays.rewards)
    if len(successes):
        length = int(successes[0]) + 1
    elif len(arrays.next_observations) < len(arrays.observations):
        length -= 1
        if length == 0:
            raise UsageError(f"{where}: a single step without success needs next_obs; remove it")
    reward = torch.from_numpy(arrays.rewards[:length]).float().unsqueeze(-1)
    success = reward == 1
    done = torch.zeros_like(success)
    done[-1] = True
    false = torch.zeros_like(success)
    labels = {} if arrays.actions.labels is None else {EXPERT_ACTION: arrays.actions.labels}
    actions = {ACTION: arrays.actions.executed, **labels}
    episode = TensorDict(
        {
            **{key: _to_tensor(value[:length]) for key, value in arrays.observations.items()},
            **{key: torch.from_numpy(value[:length]).float() for key, value in actions.items()},
            **{key: torch.from_numpy(value[:length]) for key, value in arrays.extras.items()},
            SUCCESS: false,
            DONE: false.clone(),
            TERMINATED: false.clone(),
            TRUNCATED: false.clone(),
            NEXT: {
                **{key: _to_tensor(value[:length]) for key, value in after.items()},
                REWARD: reward,
                SUCCESS: success,
                DONE: done,
                TERMINATED: success.clone(),
                TRUNCATED: done & ~success,
            },
        },
        batch_size=[length],
    )
    for key, text in arrays.texts.items():
        episode.set_non_tensor(key, text)
    return episode


def _to_tensor(values: np.ndarray) -> torch.Tensor:
    """Convert an observation; images are permuted from [T, H, W, C] to [T, C, H, W]."""
    tensor = torch.from_numpy(values)
    is_image = tensor.dtype == torch.uint8 and tensor.ndim == 4
    return tensor.permute(0, 3, 1, 2).contiguous() if is_image else tensor
