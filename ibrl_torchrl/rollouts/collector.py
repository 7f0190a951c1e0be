"""Which episodes a run learns from, and when they are played."""

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
    """An episode [T] to learn from, and whether it belongs to the warm-up."""

    episode: TensorDict
    is_warmup: bool


class EpisodeCollector(Iterator[CollectedEpisode]):
    """Training episodes without end, in the order of their numbers.

    Episode ``i`` is a function of ``seed``, ``i`` and the weights it is played with. As many are
    played side by side as ``rollouts`` can. They all begin with the same weights, and the learner
    waits for them; or, overlapping, one begins whenever one is taken, and the learner learns from
    what it took meanwhile. Either way they are taken in order, so that what is learned does not
    depend on how long anything takes. Overlapping, half as many more as can be played are ordered,
    so that nobody idles whose episode is not the next to be taken.

    Args:
        rollouts: plays the policies ``"warmup"`` and ``"explore"``.
        seed: of the run.
        warmup_episodes: episodes of ``"warmup"``; all others are of ``"explore"``.
        overlap: play while the learner learns.
        num_completed: episodes that an interrupted run had taken before.
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
        self._number = rollouts.num_workers + (rollouts.num_workers // 2 if overlap else 0)
        self._taken = num_completed
        self._begun: deque[Future[TensorDict]] = deque(map(_finished, in_flight))

    def __next__(self) -> CollectedEpisode:
        """Wait for the next episode."""
        if not self._begun:
            self._begin(self._number)
        episode = self._begun.popleft().result()
        is_warmup = self._taken < self._warmup_episodes
        self._taken += 1
        if self._overlap:
            self._begin(1)
        return CollectedEpisode(episode, is_warmup)

    def in_flight(self) -> list[TensorDict]:
        """The episodes that were begun and not taken; waits for their ends."""
        return [begun.result() for begun in self._begun]

    def _begin(self, count: int) -> None:
        first = self._taken + len(self._begun)
        for number in range(first, first + count):
            policy = WARMUP if number < self._warmup_episodes else EXPLORE
            seed = episode_seed(self._seed, number)
            self._begun.append(self._rollouts.submit(policy, seed, explore=True))


def episode_seed(seed: int, number: int) -> int:
    """The seed of a run's episode, spread over 32 bits so that runs do not share any."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def _finished(episode: TensorDict) -> Future[TensorDict]:
    played: Future[TensorDict] = Future()
    played.set_result(episode)
    return played
