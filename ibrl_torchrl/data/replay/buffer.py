"""Replay buffers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from tensordict import TensorDictBase
from torchrl.data import (
    LazyMemmapStorage,
    LazyTensorStorage,
    RandomSampler,
    TensorDictReplayBuffer,
)
from torchrl.envs.transforms import Transform

from ibrl_torchrl import keys
from ibrl_torchrl.data.replay.prioritized import PortablePrioritizedSampler


def episode_buffer(
    capacity: int,
    batch_size: int,
    transform: Transform,
    *,
    storage: Literal["memory", "memmap"] = "memory",
    scratch_dir: str | Path | None = None,
    prioritized: bool = False,
    alpha: float = 0.6,
    beta: float = 0.4,
) -> TensorDictReplayBuffer:
    """A TorchRL replay buffer whose ``extend`` takes one complete episode.

    Args:
        capacity: transitions kept; the oldest go first.
        batch_size: transitions in a sample.
        transform: what is stored of an episode.
        storage: ``"memory"`` or ``"memmap"`` (files under ``scratch_dir``).
        scratch_dir: folder of the memory map, default a temporary one.
        prioritized: draw by priority ``td_error`` instead of uniformly.
        alpha: exponent of the priorities, default 0.6.
        beta: exponent of the importance weights, default 0.4.
    """
    if storage == "memmap":
        store = LazyMemmapStorage(capacity, scratch_dir=scratch_dir)
    else:
        store = LazyTensorStorage(capacity)
    sampler = (
        PortablePrioritizedSampler(capacity, alpha=alpha, beta=beta)
        if prioritized
        else RandomSampler()
    )
    return TensorDictReplayBuffer(
        storage=store,
        sampler=sampler,
        transform=transform,
        batch_size=batch_size,
        priority_key=keys.PRIORITY,
    )


class Replay(Protocol):
    """What the learner and the loop need of a replay buffer."""

    def __len__(self) -> int: ...

    def extend(self, episode: TensorDictBase, /) -> object: ...

    def sample(self) -> TensorDictBase: ...

    def update_tensordict_priority(self, batch: TensorDictBase, /) -> None: ...
