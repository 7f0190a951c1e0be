"""Replay: whole episodes in, n-step transitions out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from tensordict import TensorDictBase
from torchrl.data import (
    LazyMemmapStorage,
    LazyTensorStorage,
    RandomSampler,
    TensorDictReplayBuffer,
)
from torchrl.data.postprocs import MultiStep
from torchrl.envs.transforms import Transform

from ibrl_torchrl import keys
from ibrl_torchrl.data.prioritized import PortablePrioritizedSampler


class EpisodeToTransitions(Transform):
    """Write-side transform: complete episodes to n-step transitions.

    Transition t goes from s_t to s_{t+k}, k = min(n, steps left), with reward
    sum_{j<k} gamma^j r_{t+j}, the done flags of its *last* step, and ``steps_to_next_obs`` = k, by
    which TorchRL's estimators raise gamma. So a window that reaches success does not bootstrap and
    one that reaches the horizon bootstraps from the last observation.

    Args:
        observation_keys: what to store of each observation; everything else that a policy or
            collector wrote is dropped.
        n_steps: n, default 3 (original code).
        gamma: discount, must equal the loss's.
        time_limit_terminates: treat the horizon as terminal, as the original code does; default
            False, which is correct.

    Raises:
        ValueError: an episode does not end with ``done``, so that its last windows are unknown.
    """

    def __init__(
        self,
        observation_keys: Sequence[str],
        *,
        n_steps: int = 3,
        gamma: float = 0.99,
        time_limit_terminates: bool = False,
    ) -> None:
        super().__init__()
        step = [keys.REWARD, keys.DONE, keys.TERMINATED, keys.TRUNCATED]
        self._kept = [
            *observation_keys,
            keys.ACTION,
            *((keys.NEXT, key) for key in [*observation_keys, *step]),
        ]
        self._time_limit_terminates = time_limit_terminates
        self._multi_step = MultiStep(gamma=gamma, n_steps=n_steps)
        # By default TorchRL moves reward and observation to the end of the window but leaves the
        # done flags of its first step, which bootstraps past success.
        self._multi_step.done_keys = [keys.DONE]
        self._multi_step.mask_key = None

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Leave samples as they are."""
        return tensordict

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        if not bool(tensordict[keys.NEXT, keys.DONE][-1]):
            raise ValueError("replay takes complete episodes; this one does not end with done")
        episode = tensordict.select(*self._kept)
        if self._time_limit_terminates:
            terminated = episode[keys.NEXT, keys.TERMINATED] | episode[keys.NEXT, keys.TRUNCATED]
            episode.set((keys.NEXT, keys.TERMINATED), terminated)
        transitions = self._multi_step(episode)
        # Done follows the other flags: true where the window reached the end of the episode.
        last = transitions[keys.NEXT, keys.TERMINATED] | transitions[keys.NEXT, keys.TRUNCATED]
        transitions.set((keys.NEXT, keys.DONE), last)
        return transitions.select(*self._kept, keys.STEPS_TO_NEXT_OBS)


class ConstantReward(Transform):
    """Write-side transform: every step of an episode earns the same (SQIL).

    It is written before :class:`EpisodeToTransitions`, whose n-step rewards then are sums of it.

    Args:
        reward: of each step.
    """

    def __init__(self, reward: float) -> None:
        super().__init__()
        self._reward = reward

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Leave samples as they are."""
        return tensordict

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        rewards = torch.full_like(tensordict[keys.NEXT, keys.REWARD], self._reward)
        return tensordict.copy().set((keys.NEXT, keys.REWARD), rewards)


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


class DemoShareReplay:
    """Two buffers sampled together: an exact share of every batch comes from demonstrations.

    It is used like the ``TensorDictReplayBuffer`` it replaces: ``extend``, ``sample``,
    ``update_tensordict_priority``, ``len``. Demonstrations are never pushed out by new episodes.

    Args:
        demos: holds the demonstrations.
        online: takes the new episodes. Its samples must have the keys of the other's.
        demo_share: share of each batch from ``demos``, in (0, 1). RLPD: 0.5.
        batch_size: transitions in a sample; the demonstrations' part is rounded to the nearest.
        keep_successes: successful online episodes join the demonstrations too (RLPD+).

    Raises:
        ValueError: the share leaves one of the two without a transition.
    """

    def __init__(
        self,
        demos: TensorDictReplayBuffer,
        online: TensorDictReplayBuffer,
        *,
        demo_share: float,
        batch_size: int,
        keep_successes: bool = False,
    ) -> None:
        self._demo_size = round(demo_share * batch_size)
        self._online_size = batch_size - self._demo_size
        if self._demo_size < 1 or self._online_size < 1:
            raise ValueError(
                f"demo_share {demo_share} of a batch of {batch_size} leaves one side empty"
            )
        self.demos = demos
        self.online = online
        self._keep_successes = keep_successes

    def __len__(self) -> int:
        return len(self.demos) + len(self.online)

    def extend(self, episode: TensorDictBase) -> None:
        """Add one complete online episode [T]."""
        self.online.extend(episode)
        if self._keep_successes and bool(episode[keys.NEXT, keys.TERMINATED].any()):
            self.demos.extend(episode)

    def sample(self) -> TensorDictBase:
        """Draw a batch; ``is_demo`` bool [B] says where each transition came from."""
        demos = self.demos.sample(self._demo_size)
        online = self.online.sample(self._online_size)
        batch = torch.cat([demos, online])
        return batch.set(keys.IS_DEMO, torch.arange(len(batch)) < self._demo_size)

    def update_tensordict_priority(self, batch: TensorDictBase) -> None:
        """Hand the priorities of a sampled batch back to the buffers it came from."""
        self.demos.update_tensordict_priority(batch[: self._demo_size])
        self.online.update_tensordict_priority(batch[self._demo_size :])


class WithDemos:
    """A replay whose batches bring demonstrations along, under ``"demo"`` (RFT).

    Args:
        replay: sampled as it is.
        demos: gives as many transitions as it samples at a time, which must be the replay's batch.
    """

    def __init__(
        self, replay: TensorDictReplayBuffer | DemoShareReplay, demos: TensorDictReplayBuffer
    ) -> None:
        self.replay = replay
        self.demos = demos

    def __len__(self) -> int:
        return len(self.replay)

    def extend(self, episode: TensorDictBase) -> None:
        """Add one complete online episode [T]."""
        self.replay.extend(episode)

    def sample(self) -> TensorDictBase:
        """Draw a batch [B] and, under ``"demo"``, demonstration transitions [B]."""
        return self.replay.sample().set(keys.DEMO, self.demos.sample())

    def update_tensordict_priority(self, batch: TensorDictBase) -> None:
        """Hand the priorities of a sampled batch back."""
        self.replay.update_tensordict_priority(batch.exclude(keys.DEMO))
