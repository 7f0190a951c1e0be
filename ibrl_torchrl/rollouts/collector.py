"""Collector of training episodes, in a reproducible order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np
from tensordict import TensorDict

from ibrl_torchrl.keys import EXPLORE, WARMUP
from ibrl_torchrl.rollouts.episode import Rollouts


class CollectedEpisode(NamedTuple):
    """Training episode [T], and whether it belongs to the warm-up."""

    episode: TensorDict
    is_warmup: bool


class EpisodeCollector(Iterator[CollectedEpisode]):
    """Endless iterator of training episodes, in the order of their numbers.

    Episode ``i`` is a function of ``seed``, ``i`` and the weights at its start. As many run in
    parallel as ``rollouts`` has workers. Without ``overlap`` they start together, with the same
    weights, and the learner waits for them. With ``overlap`` one is submitted whenever one is
    taken, and they run while the learner updates; half as many more as there are workers are
    submitted, so that no worker is idle while an earlier episode is unfinished. In both cases the
    order is fixed, so that results do not depend on the speed of anything.

    Args:
        rollouts: run the policies ``"warmup"`` and ``"explore"``.
        seed: of the run.
        warmup_episodes: number of episodes of ``"warmup"``; all later ones are of ``"explore"``.
        overlap: collect while the learner updates. Default False.
        num_completed: episodes that an interrupted run had taken.
        in_flight: episodes that it had submitted and not taken.
    """

    def __init__(
        self,
        rollouts: Rollouts,
        *,
        seed: int,
        warmup_episodes: int,
        overlap: bool = False,
        num_completed: int = 0,
        in_flight: Iterable[TensorDict] = (),
    ) -> None:
        self._rollouts = rollouts
        self._seed = seed
        self._warmup_episodes = warmup_episodes
        self._overlap = overlap
        self._num_parallel = rollouts.num_workers + (rollouts.num_workers // 2 if overlap else 0)
        self._num_completed = num_completed
        self._futures: deque[Future[TensorDict]] = deque(map(_completed, in_flight))

    def __next__(self) -> CollectedEpisode:
        """Wait for the next episode."""
        if not self._futures:
            self._submit(self._num_parallel)
        episode = self._futures.popleft().result()
        is_warmup = self._num_completed < self._warmup_episodes
        self._num_completed += 1
        if self._overlap:
            self._submit(1)
        return CollectedEpisode(episode, is_warmup)

    def in_flight(self) -> list[TensorDict]:
        """Wait for the episodes that are submitted and not taken."""
        return [future.result() for future in self._futures]

    def _submit(self, count: int) -> None:
        first = self._num_completed + len(self._futures)
        for number in range(first, first + count):
            policy = WARMUP if number < self._warmup_episodes else EXPLORE
            seed = episode_seed(self._seed, number)
            self._futures.append(self._rollouts.submit(policy, seed, explore=True))


def episode_seed(seed: int, number: int) -> int:
    """Seed of a run's episode, spread over 32 bits so that runs do not share any."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def _completed(episode: TensorDict) -> Future[TensorDict]:
    future: Future[TensorDict] = Future()
    future.set_result(episode)
    return future
