"""Evaluation of policies from seeded initial states, without exploration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase

from ibrl_torchrl.console import progress_bar
from ibrl_torchrl.keys import NEXT, PROPOSAL, SUCCESS
from ibrl_torchrl.rollouts.episode import Rollouts, rollout_episode
from ibrl_torchrl.runs.tables import share_column


@dataclass(frozen=True)
class EpisodeOutcome:
    """Outcome of one episode.

    Attributes:
        seed: seed of the initial state.
        success: whether the task was solved.
        frames: length in environment steps (after action repeat).
        proposal_frames: number of frames in which each proposal was executed, by its name.
    """

    seed: int
    success: bool
    frames: int
    proposal_frames: Mapping[str, int]


@dataclass(frozen=True)
class Evaluation:
    """Outcomes of one policy's episodes and their statistics.

    Attributes:
        episodes: at least one outcome; all of them count the same proposals.

    Example:
        >>> success = EpisodeOutcome(0, True, frames=10, proposal_frames={"rl": 4, "bc": 6})
        >>> failure = EpisodeOutcome(1, False, frames=30, proposal_frames={"rl": 30, "bc": 0})
        >>> evaluation = Evaluation((success, failure))
        >>> evaluation.success_rate, evaluation.success_length, evaluation.proposal_shares
        (0.5, 10.0, {'rl': 0.85, 'bc': 0.15})
    """

    episodes: tuple[EpisodeOutcome, ...]

    @property
    def success_rate(self) -> float:
        """Fraction of episodes that solved the task."""
        return sum(episode.success for episode in self.episodes) / len(self.episodes)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson score interval of the success rate."""
        return wilson_interval(sum(e.success for e in self.episodes), len(self.episodes))

    @property
    def success_length(self) -> float:
        """Mean length of the successful episodes in frames; NaN if there are none."""
        lengths = [episode.frames for episode in self.episodes if episode.success]
        return sum(lengths) / len(lengths) if lengths else math.nan

    @property
    def proposal_shares(self) -> dict[str, float]:
        """Fraction of all frames in which each proposal was executed, by its name."""
        frames = sum(episode.frames for episode in self.episodes)
        return {
            name: sum(episode.proposal_frames[name] for episode in self.episodes) / frames
            for name in self.episodes[0].proposal_frames
        }

    def row(self) -> dict[str, float]:
        """Statistics by the column names of ``eval.csv``, see :func:`eval_columns`."""
        low, high = self.interval
        return {
            "episodes": len(self.episodes),
            "success": self.success_rate,
            "success_low": low,
            "success_high": high,
            "success_length": self.success_length,
            **{share_column("acting", name): share for name, share in self.proposal_shares.items()},
        }


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson score interval of a binomial proportion.

    Args:
        successes: number of successes.
        trials: number of trials, at least 1.
        z: quantile of the standard normal distribution; the default gives 95 %.

    Returns:
        Lower and upper bound in [0, 1].
    """
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


class EvaluationJob:
    """Asynchronous evaluation of several policies from the same initial states.

    Policies act without exploration. Each initial state is evaluated exactly once, so that short
    episodes have the same weight as long ones. The policies' weights are copied when the job is
    created, even where workers run the episodes later. Shows a progress bar.

    Args:
        rollouts: runs the episodes.
        policies: names of the policies in ``rollouts``. A module with two names is run once.
        seeds: seeds of the initial states.
        proposals: names of the proposals, in the order of the index ``proposal`` in an episode.
    """

    def __init__(
        self,
        rollouts: Rollouts,
        policies: Sequence[str],
        seeds: Sequence[int],
        proposals: Sequence[str],
    ) -> None:
        weights = rollouts.snapshot()
        self._seeds = seeds
        self._proposals = proposals
        self._module_ids = {name: id(rollouts.policies[name]) for name in policies}
        distinct = {id(rollouts.policies[name]): name for name in policies}
        self._bar = progress_bar(
            total=len(distinct) * len(seeds), desc="evaluation", unit="episode", leave=False
        )
        self._episodes: dict[int, list[Future[TensorDict]]] = {}
        for module_id, name in distinct.items():
            self._episodes[module_id] = []
            for seed in seeds:
                episode = rollouts.submit(name, seed, weights=weights)
                episode.add_done_callback(lambda _: self._bar.update())
                self._episodes[module_id].append(episode)

    def is_done(self) -> bool:
        """Whether all episodes have ended, so that :meth:`results` returns at once."""
        return all(episode.done() for futures in self._episodes.values() for episode in futures)

    def results(self) -> dict[str, Evaluation]:
        """Evaluations by policy name; blocks until all episodes have ended."""
        evaluations = {
            module_id: Evaluation(
                tuple(
                    summarize_episode(seed, future.result(), self._proposals)
                    for seed, future in zip(self._seeds, futures, strict=True)
                )
            )
            for module_id, futures in self._episodes.items()
        }
        self._bar.close()
        return {name: evaluations[module_id] for name, module_id in self._module_ids.items()}


def summarize_episode(
    seed: int, episode: TensorDictBase, proposals: Sequence[str]
) -> EpisodeOutcome:
    """Outcome of an episode.

    Args:
        seed: seed of the initial state.
        episode: steps [T] with ``("next", "success")`` and, if the policy chooses among proposals,
            ``proposal``, int64 [T], an index into ``proposals``.
        proposals: names of the proposals. Without ``proposal`` in the episode all have 0 frames.
    """
    indices = episode.get(PROPOSAL, None)
    return EpisodeOutcome(
        seed=seed,
        success=bool(episode[NEXT, SUCCESS].any()),
        frames=len(episode),
        proposal_frames={
            name: 0 if indices is None else int((indices == index).sum())
            for index, name in enumerate(proposals)
        },
    )


def evaluate(
    env: EnvBase,
    policy: TensorDictModuleBase,
    seeds: Iterable[int],
    proposals: Sequence[str] = (),
) -> Evaluation:
    """Evaluate a policy in this process, once from each seed's initial state, without exploration.

    Args:
        env: unbatched environment, see :func:`rollout_episode`.
        policy: writes ``action``, see :func:`rollout_episode`.
        seeds: seeds of the initial states, at least one.
        proposals: names of the proposals that the policy chooses among, in the order of the index
            ``proposal`` that it writes; default none.
    """
    return Evaluation(
        tuple(
            summarize_episode(seed, rollout_episode(env, policy, seed), proposals) for seed in seeds
        )
    )
