"""Why a run does what it does: its critics, its proposals, its BC policy off the demonstrations.

Everything is measured on episodes of the evaluated policy from named start states.
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
from ibrl_torchrl.envs.base import SparseRewardEnv
from ibrl_torchrl.evaluation.evaluate import evaluate
from ibrl_torchrl.keys import ACTION, BC_ACTION, NEXT, PROPOSAL, PROPOSAL_VALUES, SUCCESS
from ibrl_torchrl.rollouts.episode import MAX_STEPS

ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class ScoredStep:
    """A step of a played episode, before its action.

    Attributes:
        step: frames since the start.
        proposal: the one that is executed; 0 is the RL actor.
        values: of the RL actor's and the imitation policy's action, the minimum of all critics.
        distance: between the imitation policy's action and the executed one (Euclidean).
        simulator_state: from which :meth:`SparseRewardEnv.set_reset_state` continues.
    """

    step: int
    proposal: int
    values: tuple[float, float]
    distance: float
    simulator_state: np.ndarray


@dataclass(frozen=True)
class ScoredEpisode:
    """An episode with everything that was thought in it."""

    seed: int
    success: bool
    moments: tuple[ScoredStep, ...]

    def returns(self, gamma: float) -> list[float]:
        """The discounted return from each moment on: gamma^k of a success k steps later, or 0.

        Of an episode that the horizon ended it is what came within the horizon; what a policy would
        have earned later is not known.
        """
        last = len(self.moments) - 1
        return [gamma ** (last - moment.step) * self.success for moment in self.moments]


def simulator_of(env: EnvBase) -> SparseRewardEnv:
    """The environment under all transforms."""
    return getattr(env, "base_env", env)


def score_episodes(
    env: EnvBase, scored: TensorDictModuleBase, seeds: Iterable[int]
) -> Iterator[ScoredEpisode]:
    """Play episodes as :func:`evaluate` does.

    Args:
        env: an unbatched environment of a simulator.
        scored: the evaluated policy; it also writes the values of both proposals.
        seeds: names of the start states.
    """
    simulator = simulator_of(env)
    for seed in seeds:
        moments: list[ScoredStep] = []

        def watch(step: TensorDictBase, moments: list[ScoredStep] = moments) -> TensorDictBase:
            rl, imitation = step[PROPOSAL_VALUES].tolist()
            moments.append(
                ScoredStep(
                    len(moments),
                    int(step[PROPOSAL]),
                    (rl, imitation),
                    (step[BC_ACTION] - step[ACTION]).norm().item(),
                    simulator.simulator_state(),
                )
            )
            return step

        (outcome,) = evaluate(env, TensorDictSequential(scored, watch), [seed]).episodes
        yield ScoredEpisode(seed, outcome.success, tuple(moments))


@dataclass(frozen=True)
class Demonstrations:
    """Recorded episodes, and what their file says of its environment."""

    recordings: Sequence[DemoTrajectory]
    env_args: Mapping[str, Any]


@dataclass(frozen=True)
class StateRollout:
    """How the imitation policy fared from a state in mid-episode.

    Attributes:
        source: ``"visited"`` (by the evaluated policy) or ``"demonstrated"``.
        episode: name of the episode that the state is of.
        step: of that episode.
        success: whether it solved the task within what was left of the horizon.
        error: between its action there and the scripted expert's (Euclidean); None without one
            that can be asked in mid-episode.
    """

    source: str
    episode: str
    step: int
    success: bool
    error: float | None


@torch.no_grad()
def rollouts_from_states(
    env: EnvBase,
    bc: TensorDictModuleBase,
    expert: TensorDictModuleBase | None,
    demos: Demonstrations,
    played: Sequence[ScoredEpisode],
    count: int,
    *,
    seed: int = 0,
) -> Iterator[StateRollout]:
    """Let the imitation policy go on from visited and from demonstrated states.

    Of each kind ``count`` states, of random episodes at random parts of their length.

    Args:
        env: of the same task.
        bc: executes the imitation policy.
        expert: without memory, reads ``state``; None where there is none such.
        demos: episodes that the imitation policy was trained on.
        played: episodes of the evaluated policy.
        count: states of each kind.
        seed: of the choice.

    Raises:
        UsageError: a demonstration does not fit the environment.
    """
    random = np.random.default_rng(seed)
    simulator = simulator_of(env)

    def drawn(items: Sequence[ItemT]) -> ItemT:
        return items[random.integers(len(items))]

    # Visited states first: demonstrations may bring a model of their own.
    for _ in range(count):
        episode = drawn(played)
        moment = drawn(episode.moments)
        success, error = _go_on(env, bc, expert, moment.simulator_state)
        yield StateRollout("visited", f"seed {episode.seed}", moment.step, success, error)
    for _ in range(count):
        recording = drawn(demos.recordings)
        step = int(random.integers(len(recording.simulator_states)))
        reset_to_trajectory(simulator, recording, demos.env_args)
        success, error = _go_on(env, bc, expert, recording.simulator_states[step])
        yield StateRollout("demonstrated", recording.name, step, success, error)


def _go_on(
    env: EnvBase,
    bc: TensorDictModuleBase,
    expert: TensorDictModuleBase | None,
    state: np.ndarray,
) -> tuple[bool, float | None]:
    """Whether the policy solves the task from a state, and how far its action is the expert's."""
    simulator = simulator_of(env)
    simulator.set_reset_state(state)
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        steps = env.rollout(MAX_STEPS, bc)
    error = None
    if expert is not None:
        asked = expert(simulator.set_simulator_state(state))[ACTION]
        error = (asked - steps[0][ACTION]).norm().item()
    return bool(steps[NEXT, SUCCESS].any()), error
