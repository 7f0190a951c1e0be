"""Replay buffers that mix demonstrations with online episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import PrioritizedSampler
from torchrl.data.replay_buffers.storages import Storage

from ibrl_torchrl import keys
from ibrl_torchrl.data.replay.buffer import EpisodeReplayBuffer
from ibrl_torchrl.episodes import executed_episode, intervened_segments, succeeds

ReplayT = TypeVar("ReplayT", bound="_CompositeReplay")


class _CompositeReplay:
    """Replay buffer that consists of named buffers: their states by name, shared together."""

    def __init__(self, **buffers: EpisodeReplayBuffer | _CompositeReplay) -> None:
        self._buffers = buffers

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all buffers."""
        return {name: buffer.state_dict() for name, buffer in self._buffers.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what :meth:`state_dict` returned, of buffers of the same capacities."""
        for name, buffer in self._buffers.items():
            buffer.load_state_dict(state_dict[name])

    def sampler_state_dict(self) -> dict[str, Any]:
        """Return the state of all samplers alone."""
        return {name: buffer.sampler_state_dict() for name, buffer in self._buffers.items()}

    def load_sampler_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what :meth:`sampler_state_dict` returned, after the storages have been refilled."""
        for name, buffer in self._buffers.items():
            buffer.load_sampler_state_dict(state_dict[name])

    def share(self: ReplayT, shared: bool = True) -> ReplayT:
        """Let several processes write, as ``ReplayBuffer.share`` does."""
        for buffer in self._buffers.values():
            buffer.share(shared)
        return self

    @property
    def shared(self) -> bool:
        """Several processes write."""
        return all(buffer.shared for buffer in self._buffers.values())


class MixedReplay(_CompositeReplay):
    """Replay buffer that draws an exact fraction of every batch from demonstrations.

    Symmetric sampling of RLPD (arXiv 2302.02948, section 4.1). Online episodes never overwrite
    demonstrations. It stands in for a ``TensorDictReplayBuffer`` in TorchRL's ``Trainer``
    (``ReplayBufferTrainer``) and in collectors, which extend the online buffer.

    TorchRL's ``OfflineToOnlineReplayBuffer`` draws exact fractions too, but its online buffer is
    uniform, has no write-side transform for n-step windows within an episode, no priorities and no
    ``state_dict``, and it refuses an offline ``TensorDictReplayBuffer``. ``ReplayBufferEnsemble``
    draws equal parts, or the fraction in expectation only.

    Args:
        demos: buffer of the demonstrations.
        online: buffer of the online episodes; its samples have the same keys.
        offline_fraction: fraction of each batch from ``demos``, in (0, 1). RLPD: 0.5.
        batch_size: transitions in a sample by default; the number of demonstration transitions is
            rounded to the nearest.
        keep_successes: add successful online episodes to the demonstrations too. Default False.
        keep_interventions: add the parts of online episodes in which somebody else acted
            (``intervention``) to the demonstrations too, as HIL-SERL does (arXiv 2410.21845), each
            once: an episode that ``keep_successes`` adds is not split. Default False.
        shortest_intervention: number of steps of such a part, at least. Default 1.
        final_fraction: fraction to which ``offline_fraction`` is annealed linearly, in [0, 1); 0
            leaves the demonstrations out in the end. None (default): constant.
        anneal_frames: online transitions over which it is annealed, at least 1; those written
            since construction count, so that no state of its own has to be stored. Default 1.

    Raises:
        ValueError: a fraction leaves one of the two without a transition, ``anneal_frames`` is
            less than 1, or only one of the two buffers is prioritized.

    Example:
        >>> from ibrl_torchrl.data.replay import EpisodeToTransitions, MixedReplay, episode_buffer
        >>> demos = episode_buffer(1000, 256, EpisodeToTransitions(["state"]))
        >>> online = episode_buffer(1000, 256, EpisodeToTransitions(["state"]))
        >>> replay = MixedReplay(demos, online, offline_fraction=0.5, batch_size=256)
        >>> replay.batch_size, len(replay)
        (256, 0)
    """

    def __init__(
        self,
        demos: EpisodeReplayBuffer,
        online: EpisodeReplayBuffer,
        *,
        offline_fraction: float,
        batch_size: int,
        keep_successes: bool = False,
        keep_interventions: bool = False,
        shortest_intervention: int = 1,
        final_fraction: float | None = None,
        anneal_frames: int = 1,
    ) -> None:
        super().__init__(demos=demos, online=online)
        if anneal_frames < 1:
            raise ValueError(f"anneal_frames must be at least 1, got {anneal_frames}")
        self.demos = demos
        self.online = online
        self._initial_fraction = offline_fraction
        self._final_fraction = offline_fraction if final_fraction is None else final_fraction
        self._anneal_frames = anneal_frames
        self._batch_size = batch_size
        self._keep_successes = keep_successes
        self._keep_interventions = keep_interventions
        self._shortest_intervention = shortest_intervention
        self._require_both(offline_fraction, batch_size)
        if self._final_fraction != 0:
            self._require_both(self._final_fraction, batch_size)
        prioritized = [isinstance(part.sampler, PrioritizedSampler) for part in (demos, online)]
        if prioritized[0] != prioritized[1]:
            raise ValueError(
                "only one of demos and online is prioritized; build both with the same sampler"
            )

    @property
    def batch_size(self) -> int:
        """Transitions in a sample by default."""
        return self._batch_size

    @property
    def write_count(self) -> int:
        """Transitions of online episodes written since construction."""
        return self.online.write_count

    @property
    def offline_fraction(self) -> float:
        """Fraction of a batch from the demonstrations now."""
        progress = min(1.0, self.write_count / self._anneal_frames)
        return self._initial_fraction + progress * (self._final_fraction - self._initial_fraction)

    def __len__(self) -> int:
        return len(self.demos) + len(self.online)

    def extend(self, episode: TensorDictBase) -> Tensor:
        """Add one complete online episode [T].

        Returns:
            Indices in the online buffer, int64 [T].
        """
        episode = executed_episode(episode)
        index = self.online.extend(episode)
        if self._keep_successes or self._keep_interventions:
            for part in _split_at_done(episode):
                for kept in self._demonstrations(part):
                    self.demos.extend(kept)
        return index

    def _demonstrations(self, episode: TensorDictBase) -> list[TensorDictBase]:
        """What of an online episode joins the demonstrations."""
        if self._keep_successes and succeeds(episode):
            return [episode]
        if not self._keep_interventions:
            return []
        segments = intervened_segments(episode)
        return [each for each in segments if len(each) >= self._shortest_intervention]

    def skip(self, transitions: int, successful: int = 0) -> None:
        """Advance the place of the next online transition, as if as many had been written.

        Transitions of interventions are not counted: they must not be skipped.

        Args:
            transitions: number of transitions.
            successful: those of successful episodes among them, which ``keep_successes`` adds to
                the demonstrations.
        """
        self.online.skip(transitions)
        if self._keep_successes:
            self.demos.skip(successful)

    def sample(self, batch_size: int | None = None) -> TensorDictBase:
        """Draw a batch [B], the demonstration transitions first.

        Args:
            batch_size: B, default :attr:`batch_size`.

        Returns:
            Transitions with ``is_demo``, bool [B].

        Raises:
            ValueError: the fraction of ``batch_size`` leaves one buffer without a transition.
        """
        size = self._batch_size if batch_size is None else batch_size
        fraction = self.offline_fraction
        if self._final_fraction != 0:
            self._require_both(fraction, size)
        num_demo = round(fraction * size)
        parts = [self.demos.sample(num_demo)] if num_demo else []
        batch: TensorDictBase = torch.cat([*parts, self.online.sample(size - num_demo)])
        return batch.set(keys.IS_DEMO, torch.arange(len(batch)) < num_demo)

    def update_tensordict_priority(self, batch: TensorDictBase) -> None:
        """Write the priorities of a sampled batch to the buffers its transitions came from.

        Args:
            batch: transitions with ``index``, ``is_demo`` and ``td_error``, in any order.
        """
        is_demo = batch[keys.IS_DEMO]
        for buffer, rows in ((self.demos, is_demo), (self.online, ~is_demo)):
            if isinstance(buffer.sampler, PrioritizedSampler) and bool(rows.any()):
                buffer.update_tensordict_priority(batch.select("index", keys.PRIORITY)[rows])

    @property
    def _storage(self) -> Storage:
        # TorchRL's multi-process collectors look here whether the storage they write to is
        # initialized.
        return self.online.storage

    @staticmethod
    def _require_both(fraction: float, batch_size: int) -> None:
        """Refuse a fraction of a batch that leaves demonstrations or online episodes out."""
        if not 0 < round(fraction * batch_size) < batch_size:
            raise ValueError(
                f"offline_fraction {fraction} of a batch of {batch_size} leaves one side empty; "
                "use another fraction or a larger batch"
            )


class ReplayWithDemos(_CompositeReplay):
    """Replay buffer whose batches carry as many demonstration transitions under ``"demo"``.

    For losses with a term on demonstrations, such as :class:`BCRegularizedTD3Loss` (RFT in IBRL,
    arXiv 2311.02198, section 5).

    Args:
        replay: buffer of the transitions at the root of a batch; it is extended.
        demos: buffer of the demonstrations.
        keep_successes: add successful online episodes to ``demos``, so that the actor imitates them
            too, as with the success buffer of OGPO (arXiv 2605.03065). Default False.
    """

    def __init__(
        self,
        replay: EpisodeReplayBuffer | MixedReplay,
        demos: EpisodeReplayBuffer,
        *,
        keep_successes: bool = False,
    ) -> None:
        super().__init__(replay=replay, demos=demos)
        self.replay = replay
        self.demos = demos
        self._keep_successes = keep_successes

    @property
    def batch_size(self) -> int | None:
        """Transitions in a sample by default."""
        return self.replay.batch_size

    @property
    def write_count(self) -> int:
        """Transitions written to ``replay`` since construction."""
        return self.replay.write_count

    def __len__(self) -> int:
        return len(self.replay)

    def extend(self, episode: TensorDictBase) -> Tensor:
        """Add one complete online episode [T].

        Returns:
            Indices in the buffer, int64 [T].
        """
        index = self.replay.extend(episode)  # first: it refuses an incomplete episode
        if self._keep_successes:
            for part in filter(succeeds, _split_at_done(executed_episode(episode))):
                self.demos.extend(part)
        return index

    def skip(self, transitions: int, successful: int = 0) -> None:
        """Advance the place of the next transition of ``replay``, as if as many had been written.

        Args:
            transitions: number of transitions.
            successful: those of successful episodes among them.
        """
        self.replay.skip(transitions, successful)
        if self._keep_successes:
            self.demos.skip(successful)

    def sample(self, batch_size: int | None = None) -> TensorDictBase:
        """Draw a batch [B] and, under ``"demo"``, demonstration transitions [B].

        Args:
            batch_size: B, default :attr:`batch_size`.
        """
        batch = self.replay.sample(batch_size)
        return batch.set(keys.DEMO, self.demos.sample(len(batch)))

    def update_tensordict_priority(self, batch: TensorDictBase) -> None:
        """Write the priorities of a sampled batch to ``replay``."""
        self.replay.update_tensordict_priority(batch.exclude(keys.DEMO))

    @property
    def _storage(self) -> Storage:
        # As in MixedReplay.
        return self.replay._storage


def _split_at_done(episodes: TensorDictBase) -> tuple[TensorDictBase, ...]:
    """The episodes [T_i] of a concatenation [T], as collectors write several at once."""
    ends = episodes[keys.NEXT, keys.DONE].flatten().nonzero().flatten() + 1
    return episodes.split(torch.diff(ends, prepend=ends.new_zeros(1)).tolist())
