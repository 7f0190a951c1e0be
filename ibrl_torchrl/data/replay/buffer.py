"""Replay buffer of n-step transitions that is extended by episodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import (
    LazyTensorStorage,
    RandomSampler,
    TensorDictReplayBuffer,
)
from torchrl.envs.transforms import Transform

from ibrl_torchrl import keys
from ibrl_torchrl.data.replay.memmap import ReservedMemmapStorage
from ibrl_torchrl.data.replay.prioritized import PortablePrioritizedSampler
from ibrl_torchrl.episodes import executed_episode


class EpisodeReplayBuffer(TensorDictReplayBuffer):
    """``TensorDictReplayBuffer`` that is extended by complete episodes.

    ``extend`` takes one complete episode, a TensorDict [T] in TorchRL's layout whose last step is
    ``done``, and stores what the buffer's transform makes of it. TorchRL's collectors write such
    episodes with ``trajs_per_batch=1, trajs_per_write=1``. Of an environment that reports
    interventions the executed actions are stored.

    A training run that logs its episodes needs no copy of the storage in its checkpoints: it
    extends a new buffer by the logged episodes and loads ``sampler_state_dict``.

    Args:
        kwargs: keyword arguments of ``TensorDictReplayBuffer``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # MixedReplay samples parts of a batch, so another size than the default is no mistake.
        self._warned_batch_size_conflict = True

    def extend(self, tensordicts: TensorDictBase, **kwargs: Any) -> Tensor:
        """Add one complete episode [T], see :func:`~ibrl_torchrl.episodes.executed_episode`.

        Returns:
            Indices of its transitions, int64 [T].
        """
        return super().extend(executed_episode(tensordicts), **kwargs)

    def skip(self, transitions: int, successful: int = 0) -> None:
        """Advance the place of the next transition, as if as many had been written.

        A log that holds the newest transitions alone then refills a new buffer as all would have:
        every transition gets its former index.

        Args:
            transitions: number of transitions.
            successful: those of successful episodes among them; no matter here.
        """
        del successful
        state = self.writer.state_dict()
        cursor = (state["_cursor"] + transitions) % self.storage.max_size
        count = state["_write_count"] + transitions
        self.writer.load_state_dict({"_cursor": cursor, "_write_count": count})

    def sampler_state_dict(self) -> dict[str, Any]:
        """Return the state of the sampler alone, such as its priorities."""
        return self.sampler.state_dict()

    def load_sampler_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what :meth:`sampler_state_dict` returned, after the storage has been refilled."""
        self.sampler.load_state_dict(dict(state_dict))


def episode_buffer(
    capacity: int,
    batch_size: int,
    transform: Transform,
    *,
    storage: Literal["memory", "memmap"] = "memory",
    scratch_dir: str | Path | None = None,
    device: torch.device | None = None,
    shared: bool = False,
    prioritized: bool = False,
    alpha: float = 0.6,
    beta: float = 0.4,
) -> EpisodeReplayBuffer:
    """Build a replay buffer of n-step transitions that is extended by episodes.

    Args:
        capacity: maximum number of transitions; the oldest are overwritten first.
        batch_size: transitions in a sample.
        transform: write-side transform, usually :class:`EpisodeToTransitions` alone or in a
            ``Compose``.
        storage: ``"memory"`` or ``"memmap"`` (new files under ``scratch_dir``, whose disk space is
            reserved at the first ``extend``).
        scratch_dir: folder of the memory map, default a temporary one.
        device: device of the storage ``"memory"``, of priorities and samples; None (default): the
            CPU.
        shared: the processes of a ``MultiSyncCollector`` or ``MultiAsyncCollector`` write to the
            buffer; its storage is then memory-mapped in any case. Default False. TorchRL refuses
            prioritized sampling in a shared buffer.
        prioritized: sample by priority ``td_error`` (arXiv 1511.05952) instead of uniformly.
        alpha: exponent of the priorities, default 0.6.
        beta: exponent of the importance weights, default 0.4.

    Raises:
        UsageError: at the first ``extend``, when the disk has no space for the files.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from ibrl_torchrl.data.replay import EpisodeToTransitions, episode_buffer
        >>> end = torch.tensor([[False], [False], [True]])
        >>> episode = TensorDict(
        ...     {
        ...         "state": torch.zeros(3, 4),
        ...         "action": torch.zeros(3, 2),
        ...         "next": {
        ...             "state": torch.zeros(3, 4),
        ...             "reward": end.float(),
        ...             "terminated": end,
        ...             "truncated": torch.zeros_like(end),
        ...             "done": end,
        ...         },
        ...     },
        ...     batch_size=[3],
        ... )
        >>> replay = episode_buffer(1000, 32, EpisodeToTransitions(["state"], n_steps=3))
        >>> _ = replay.extend(episode)
        >>> replay.sample()["next", "reward"].shape
        torch.Size([32, 1])
    """
    lazy_storage: LazyTensorStorage
    if storage == "memmap":
        lazy_storage = ReservedMemmapStorage(capacity, scratch_dir=scratch_dir, shared_init=shared)
    else:
        # TorchRL's default device is the CPU.
        where = {} if device is None else {"device": device}
        lazy_storage = LazyTensorStorage(capacity, shared_init=shared, **where)
    sampler = (
        PortablePrioritizedSampler(capacity, alpha=alpha, beta=beta, device=device)
        if prioritized
        else RandomSampler()
    )
    return EpisodeReplayBuffer(
        storage=lazy_storage,
        sampler=sampler,
        transform=transform,
        batch_size=batch_size,
        priority_key=keys.PRIORITY,
        shared=shared,
    )


class Replay(Protocol):
    """Interface of the replay buffers that a learner samples and a training loop extends.

    :class:`EpisodeReplayBuffer`, :class:`MixedReplay` and :class:`ReplayWithDemos` have it.
    """

    @property
    def batch_size(self) -> int | None:
        """Transitions in a sample by default."""

    @property
    def write_count(self) -> int:
        """Transitions written since construction; demonstrations of a mixed replay not counted."""

    def __len__(self) -> int: ...

    def extend(self, episode: TensorDictBase, /) -> object:
        """Add one complete episode [T]."""

    def skip(self, transitions: int, successful: int = 0) -> None:
        """Advance the place of the next transition, see :meth:`EpisodeReplayBuffer.skip`."""

    def sample(self, batch_size: int | None = None) -> TensorDictBase:
        """Draw a batch of transitions [B]."""

    def update_tensordict_priority(self, batch: TensorDictBase, /) -> None:
        """Write the priorities of a sampled batch, under ``td_error``, to its buffers."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state of storages, samplers and transforms."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Load what :meth:`state_dict` returned."""

    def sampler_state_dict(self) -> dict[str, Any]:
        """Return the state of the samplers alone, for storages refilled from an episode log."""

    def load_sampler_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        """Load what :meth:`sampler_state_dict` returned."""
