"""Evaluation from named start states."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.keys import NEXT, PROPOSAL, SUCCESS


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


@torch.no_grad()
def evaluate(
    env: EnvBase,
    policy: Callable[[TensorDictBase], TensorDictBase],
    seeds: Sequence[int],
    on_episode: Callable[[EpisodeOutcome], None] | None = None,
) -> Evaluation:
    """Run one episode from the start state of each seed, without exploration.

    Every start state is played exactly once, so that short episodes count no more than long ones.
    The global random state of PyTorch is left as it was found.

    Args:
        env: an unbatched environment that ends its episodes itself and reports ``success``.
        policy: writes ``action``, and ``proposal`` where it chooses among several; in eval mode.
        seeds: names of the start states.
        on_episode: called after each episode, to show progress.
    """
    episodes = []
    with torch.random.fork_rng(), set_exploration_type(ExplorationType.DETERMINISTIC):
        for seed in seeds:
            env.set_seed(seed)
            steps = env.rollout(MAX_STEPS, policy)
            proposals = steps.get(PROPOSAL, None)
            outcome = EpisodeOutcome(
                seed=seed,
                success=bool(steps[NEXT, SUCCESS].any()),
                frames=len(steps),
                il_frames=0 if proposals is None else int((proposals > 0).sum()),
            )
            episodes.append(outcome)
            if on_episode is not None:
                on_episode(outcome)
    return Evaluation(tuple(episodes))


MAX_STEPS = 1_000_000  # environments end their own episodes; rollout wants a bound
