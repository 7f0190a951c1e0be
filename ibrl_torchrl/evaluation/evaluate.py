"""Evaluation from named start states."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from tensordict import TensorDict, TensorDictBase
from torchrl.envs import EnvBase

from ibrl_torchrl.console import progress_bar
from ibrl_torchrl.keys import NEXT, PROPOSAL, SUCCESS
from ibrl_torchrl.rollouts.episode import Rollouts, rollout_episode


@dataclass(frozen=True)
class EpisodeOutcome:
    """How one episode went.

    Attributes:
        seed: names the start state.
        success: whether the task was solved.
        frames: length in environment steps (after action repeat).
        il_frames: steps in which an imitation policy's proposal was executed.
    """

    seed: int
    success: bool
    frames: int
    il_frames: int


@dataclass(frozen=True)
class Evaluation:
    """Episodes of one policy."""

    episodes: tuple[EpisodeOutcome, ...]

    @property
    def success_rate(self) -> float:
        """Share of solved episodes."""
        return sum(episode.success for episode in self.episodes) / len(self.episodes)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson score interval of the success rate."""
        return wilson_interval(sum(e.success for e in self.episodes), len(self.episodes))

    @property
    def success_length(self) -> float:
        """Mean length of the solved episodes in frames; NaN if there are none."""
        lengths = [episode.frames for episode in self.episodes if episode.success]
        return sum(lengths) / len(lengths) if lengths else math.nan

    @property
    def il_share(self) -> float:
        """Share of executed actions that an imitation policy proposed."""
        return sum(e.il_frames for e in self.episodes) / sum(e.frames for e in self.episodes)

    def row(self) -> dict[str, float]:
        """The figures as one table row."""
        low, high = self.interval
        return {
            "episodes": len(self.episodes),
            "success": self.success_rate,
            "success_low": low,
            "success_high": high,
            "success_length": self.success_length,
            "il_share": self.il_share,
        }


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson score interval of a proportion, at 95 % by default."""
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


class EvaluationJob:
    """Policies that are being played from the same start states, with a progress bar.

    Nothing explores, and every start state is played exactly once, so that short episodes count no
    more than long ones. The policies are those of the moment in which this is made, even where
    workers play them later.

    Args:
        rollouts: plays.
        policies: their names. A policy that has two is played once.
        seeds: names of the start states.
    """

    def __init__(self, rollouts: Rollouts, policies: Sequence[str], seeds: Sequence[int]) -> None:
        weights = rollouts.snapshot()
        self._seeds = seeds
        self._of_policy = {name: id(rollouts.policies[name]) for name in policies}
        distinct = {id(rollouts.policies[name]): name for name in policies}
        self._bar = progress_bar(
            total=len(distinct) * len(seeds), desc="evaluation", unit="episode", leave=False
        )
        self._played: dict[int, list[Future[TensorDict]]] = {}
        for policy, name in distinct.items():
            self._played[policy] = []
            for seed in seeds:
                episode = rollouts.submit(name, seed, weights=weights)
                episode.add_done_callback(lambda _: self._bar.update())
                self._played[policy].append(episode)

    def is_done(self) -> bool:
        """Whether :meth:`results` would not wait."""
        return all(episode.done() for each in self._played.values() for episode in each)

    def results(self) -> dict[str, Evaluation]:
        """What became of it, by policy; waits for what is still being played."""
        of = {
            policy: Evaluation(
                tuple(
                    summarize_episode(seed, episode.result())
                    for seed, episode in zip(self._seeds, episodes, strict=True)
                )
            )
            for policy, episodes in self._played.items()
        }
        self._bar.close()
        return {name: of[policy] for name, policy in self._of_policy.items()}


def summarize_episode(seed: int, episode: TensorDictBase) -> EpisodeOutcome:
    """How an episode [T] went that began where ``seed`` says."""
    proposals = episode.get(PROPOSAL, None)
    return EpisodeOutcome(
        seed=seed,
        success=bool(episode[NEXT, SUCCESS].any()),
        frames=len(episode),
        il_frames=0 if proposals is None else int((proposals > 0).sum()),
    )


def evaluate(
    env: EnvBase, policy: Callable[[TensorDictBase], TensorDictBase], seeds: Iterable[int]
) -> Evaluation:
    """Play a policy once from the start state of each seed, here and without exploration.

    Args:
        env: see :func:`rollout_episode`.
        policy: see :func:`rollout_episode`.
        seeds: names of the start states.
    """
    return Evaluation(
        tuple(summarize_episode(seed, rollout_episode(env, policy, seed)) for seed in seeds)
    )
