"""Collector of training episodes in a reproducible order."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np
from tensordict import TensorDict

from ibrl_torchrl.keys import EXPLORE, WARMUP
from ibrl_torchrl.rollouts.episode import Rollouts


class CollectedEpisode(NamedTuple):
    """Collected training episode.

    Attributes:
        episode: TensorDict [T].
        is_warmup: whether the warm-up policy collected it.
    """

    episode: TensorDict
    is_warmup: bool


def explores(index: int, share: float) -> bool:
    """Whether a training episode explores, so that a share of them does, evenly spread.

    Args:
        index: number of the episode after the warm-up, from 0.
        share: share of episodes, in [0, 1].

    Example:
        >>> [explores(index, 0.5) for index in range(4)]
        [False, True, False, True]
    """
    return math.floor((index + 1) * share) > math.floor(index * share)


class EpisodeCollector(Iterator[CollectedEpisode]):
    """Infinite iterator of training episodes, in the order of their indices.

    Episode ``i`` is a function of ``seed``, ``i`` and the weights at its submission. Without
    ``overlap`` one episode per worker is submitted at once, with the same weights, and the learner
    waits for all of them. With ``overlap`` an episode is submitted whenever one is returned, and
    workers act while the learner updates; up to 1.5 episodes per worker are in flight, so that no
    worker is idle while an earlier episode is unfinished. In both cases the order of episodes is
    fixed, so that results do not depend on the speed of workers.

    Args:
        rollouts: backend with the policies ``"warmup"`` and ``"explore"``.
        seed: seed of the run.
        warmup_episodes: number of episodes of ``"warmup"``; all later ones are of ``"explore"``.
        exploration_share: share of those later ones that explore (:func:`explores`), in [0, 1];
            the others act as in evaluations. Default 1.
        max_steps: steps after which an episode is truncated; None (default): the environment alone
            ends it.
        overlap: collect while the learner updates. Default False.
        num_completed: number of episodes that the interrupted run had returned. Default 0.
        in_flight: episodes that it had submitted and not returned. Default none.
    """

    def __init__(
        self,
        rollouts: Rollouts,
        *,
        seed: int,
        warmup_episodes: int,
        exploration_share: float = 1.0,
        max_steps: int | None = None,
        overlap: bool = False,
        num_completed: int = 0,
        in_flight: Iterable[TensorDict] = (),
    ) -> None:
        self._rollouts = rollouts
        self._seed = seed
        self._warmup_episodes = warmup_episodes
        self._exploration_share = exploration_share
        self._max_steps = max_steps
        self._overlap = overlap
        self._num_parallel = rollouts.num_workers + (rollouts.num_workers // 2 if overlap else 0)
        self._num_completed = num_completed
        self._futures: deque[Future[TensorDict]] = deque(map(_completed, in_flight))

    def __next__(self) -> CollectedEpisode:
        """Return the next episode, when it is finished."""
        if not self._futures:
            self._submit(self._num_parallel)
        episode = self._futures.popleft().result()
        is_warmup = self._num_completed < self._warmup_episodes
        self._num_completed += 1
        if self._overlap:
            self._submit(1)
        return CollectedEpisode(episode, is_warmup)

    def in_flight(self) -> list[TensorDict]:
        """Return the episodes that are submitted and not yet returned, when all are finished."""
        return [future.result() for future in self._futures]

    def _submit(self, count: int) -> None:
        first = self._num_completed + len(self._futures)
        for index in range(first, first + count):
            learned = index - self._warmup_episodes
            policy = WARMUP if learned < 0 else EXPLORE
            explore = learned < 0 or explores(learned, self._exploration_share)
            seed = episode_seed(self._seed, index)
            future = self._rollouts.submit(
                policy, seed, explore=explore, max_steps=self._max_steps, urgent=True
            )
            self._futures.append(future)


def episode_seed(seed: int, index: int) -> int:
    """Seed of an episode, hashed to 32 bits so that runs of other seeds share hardly any.

    Args:
        seed: seed of the run.
        index: index of the episode in the run.
    """
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0])


def _completed(episode: TensorDict) -> Future[TensorDict]:
    future: Future[TensorDict] = Future()
    future.set_result(episode)
    return future
