"""Diagnosis of an agent: critic values, selection of proposals, covariate shift of imitation.

Covariate shift is measured by rollouts of the imitation policies from states that the agent
visited, against rollouts from demonstrated states.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.data.demos.playback import reset_to_trajectory
from ibrl_torchrl.data.demos.trajectories import DemoTrajectory
from ibrl_torchrl.evaluation.evaluate import evaluate
from ibrl_torchrl.evaluation.simulator import unwrapped
from ibrl_torchrl.keys import (
    ACTION,
    ACTION_CHUNK,
    NEXT,
    PROPOSAL,
    PROPOSAL_VALUES,
    SUCCESS,
    proposal_key,
)
from ibrl_torchrl.rollouts.episode import MAX_STEPS

ItemT = TypeVar("ItemT")

VISITED, DEMONSTRATED = "visited", "demonstrated"


@dataclass(frozen=True)
class ScoredStep:
    """Selection at one step of an episode, before its action.

    Attributes:
        step: frames since the start of the episode.
        proposal: name of the executed proposal.
        values: critics' value of each proposal's action (minimum over all of them, or as
            ``algo.proposals.acting.reduction``), by its name.
        distances: Euclidean distance of each imitation policy's action, or chunk, from the chosen
            one at the last decision, by the policy's name.
        simulator_state: float64 [n], for :meth:`SparseRewardEnv.set_reset_state`.
    """

    step: int
    proposal: str
    values: Mapping[str, float]
    distances: Mapping[str, float]
    simulator_state: np.ndarray


@dataclass(frozen=True)
class ScoredEpisode:
    """Episode with the critics' values at every step.

    Attributes:
        seed: seed of the initial state.
        success: whether the task was solved.
        steps: all steps, in order.
    """

    seed: int
    success: bool
    steps: tuple[ScoredStep, ...]

    def returns(self, gamma: float) -> list[float]:
        """Discounted return from each step: gamma^k of a success k steps later, or 0.

        The return is truncated at the horizon: what an unsuccessful episode would have earned
        beyond it is unknown.

        Example:
            >>> state = np.zeros(1)
            >>> steps = [ScoredStep(i, "rl", {"rl": 0.0}, {}, state) for i in range(3)]
            >>> ScoredEpisode(0, True, tuple(steps)).returns(0.5)
            [0.25, 0.5, 1.0]
        """
        last = len(self.steps) - 1
        return [gamma ** (last - step.step) * self.success for step in self.steps]


def score_episodes(
    env: EnvBase,
    policy: TensorDictModuleBase,
    seeds: Iterable[int],
    proposals: Sequence[str],
) -> Iterator[ScoredEpisode]:
    """Run episodes as :func:`evaluate` does and record the selection at every step.

    Args:
        env: unbatched environment of a simulator.
        policy: writes ``action``, ``proposal``, ``proposal_values`` [N], and each proposal's
            action.
        seeds: seeds of the initial states.
        proposals: names of the N proposals, the RL actor's first.
    """
    simulator = unwrapped(env)
    for seed in seeds:
        steps: list[ScoredStep] = []

        def record_step(step: TensorDictBase, steps: list[ScoredStep] = steps) -> TensorDictBase:
            chosen = step.get(ACTION_CHUNK, step[ACTION])
            distances = {
                name: (step[proposal_key(name)] - chosen).norm().item() for name in proposals[1:]
            }
            steps.append(
                ScoredStep(
                    len(steps),
                    proposals[int(step[PROPOSAL])],
                    dict(zip(proposals, step[PROPOSAL_VALUES].tolist(), strict=True)),
                    distances,
                    simulator.simulator_state(),
                )
            )
            return step

        (outcome,) = evaluate(env, TensorDictSequential(policy, record_step), [seed]).episodes
        yield ScoredEpisode(seed, outcome.success, tuple(steps))


@dataclass(frozen=True)
class Demonstrations:
    """Demonstrated trajectories with their environment's metadata.

    Attributes:
        trajectories: episodes with simulator states.
        env_args: robomimic's metadata of their file.
    """

    trajectories: Sequence[DemoTrajectory]
    env_args: Mapping[str, Any]


@dataclass(frozen=True)
class StateRollout:
    """Rollout of an imitation policy from a state within an episode.

    Attributes:
        policy: name of the imitation policy.
        source: ``"visited"`` (by the evaluated agent) or ``"demonstrated"``.
        episode: name of the episode that contains the state.
        step: index of the state in that episode.
        success: whether the policy solved the task within the rest of the horizon.
        error: Euclidean distance of its first action from the scripted expert's; None without a
            memoryless expert.
    """

    policy: str
    source: str
    episode: str
    step: int
    success: bool
    error: float | None


@torch.no_grad()
def rollouts_from_states(
    env: EnvBase,
    policies: Mapping[str, TensorDictModuleBase],
    expert: TensorDictModuleBase | None,
    demos: Demonstrations,
    episodes: Sequence[ScoredEpisode],
    count: int,
    *,
    seed: int = 0,
) -> Iterator[StateRollout]:
    """Roll out imitation policies from visited and from demonstrated states.

    ``count`` states are drawn from each source, of random episodes at random steps. Every policy
    starts from the same states.

    Args:
        env: unbatched environment of the same task.
        policies: imitation policies by name; each writes ``action``.
        expert: memoryless scripted expert that reads ``state``, or None.
        demos: demonstrations that the imitation policies were trained on.
        episodes: episodes of the evaluated agent.
        count: number of states from each source.
        seed: seed of the draws, default 0.

    Yields:
        ``2 * count * len(policies)`` rollouts, those from visited states first.

    Raises:
        UsageError: a demonstration does not match the environment.
    """
    rng = np.random.default_rng(seed)
    simulator = unwrapped(env)

    def draw(items: Sequence[ItemT]) -> ItemT:
        return items[rng.integers(len(items))]

    def rollouts(source: str, episode: str, step: int, state: np.ndarray) -> Iterator[StateRollout]:
        for name, policy in policies.items():
            success, error = _rollout_from_state(env, policy, expert, state)
            yield StateRollout(name, source, episode, step, success, error)

    # Visited states first: a demonstration may replace the simulator's model by its own.
    for _ in range(count):
        episode = draw(episodes)
        visit = draw(episode.steps)
        yield from rollouts(VISITED, f"seed {episode.seed}", visit.step, visit.simulator_state)
    for _ in range(count):
        trajectory = draw(demos.trajectories)
        step = int(rng.integers(len(trajectory.simulator_states)))
        reset_to_trajectory(simulator, trajectory, demos.env_args)
        yield from rollouts(DEMONSTRATED, trajectory.name, step, trajectory.simulator_states[step])


def _rollout_from_state(
    env: EnvBase,
    policy: TensorDictModuleBase,
    expert: TensorDictModuleBase | None,
    state: np.ndarray,
) -> tuple[bool, float | None]:
    """Success of a policy from a state, and distance of its first action from the expert's."""
    simulator = unwrapped(env)
    simulator.set_reset_state(state)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        steps = env.rollout(MAX_STEPS, policy)
    error = None
    if expert is not None:
        reference = expert(simulator.set_simulator_state(state))[ACTION]
        error = (reference - steps[0][ACTION]).norm().item()
    return bool(steps[NEXT, SUCCESS].any()), error
