"""Replay: whole episodes in, n-step transitions out."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torchrl.data import (
    TensorDictReplayBuffer,
)
from torchrl.data.replay_buffers.samplers import Sampler

from ibrl_torchrl import keys
from ibrl_torchrl.data.replay.buffer import Replay


class MixedReplay:
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


class ReplayWithDemos:
    """A replay whose batches bring demonstrations along, under ``"demo"`` (RFT).

    Args:
        replay: sampled as it is.
        demos: gives as many transitions as it samples at a time, which must be the replay's batch.
    """

    def __init__(
        self, replay: TensorDictReplayBuffer | MixedReplay, demos: TensorDictReplayBuffer
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


def samplers(replay: Replay) -> dict[str, Sampler]:
    """The samplers of all buffers that a replay consists of, by a name of their place."""
    if isinstance(replay, TensorDictReplayBuffer):
        return {"": replay.sampler}
    names = ["replay", "demos"] if isinstance(replay, ReplayWithDemos) else ["demos", "online"]
    return {
        f"{name}/{place}": sampler
        for name in names
        for place, sampler in samplers(getattr(replay, name)).items()
    }
