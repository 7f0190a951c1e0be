"""Playback of demonstrations in the simulator, by actions or by simulator states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.envs.utils import step_mdp

from ibrl_torchrl.data.demos.describe import describe_demos
from ibrl_torchrl.data.demos.trajectories import DemoTrajectory, read_trajectories
from ibrl_torchrl.envs import make_env_like
from ibrl_torchrl.envs.base import SparseRewardEnv
from ibrl_torchrl.envs.requirements import require_simulator
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import (
    ACTION,
    DONE,
    EXPERT_ACTION,
    MODEL_XML,
    NEXT,
    REWARD,
    SIMULATOR_STATE,
    STATE,
    SUCCESS,
)


@dataclass(frozen=True)
class DemoPlayback:
    """Recorded trajectories and an environment to play them back in.

    Attributes:
        env: environment rebuilt from the file's ``env_args``.
        recordings: trajectories, read one at a time.
        env_args: the file's description of the environment.
        count: number of trajectories.
    """

    env: SparseRewardEnv
    recordings: Iterator[DemoTrajectory]
    env_args: Mapping[str, Any]
    count: int


def open_playback(
    path: Path, filter_key: str | None = None, episodes: int | None = None, **settings: Any
) -> DemoPlayback:
    """Open the first episodes of a file for playback.

    Args:
        path: the file.
        filter_key: filter key of the file, such as ``"train"``; None takes all episodes.
        episodes: maximum number of episodes; None takes all.
        settings: arguments of the environment that replace the file's.

    Raises:
        UsageError: the file is damaged, or its environment cannot be built, or has no simulator
            states.
    """
    description = describe_demos(path, filter_key)
    count = min(len(description.episodes), episodes or len(description.episodes))
    made = make_env_like(description.env_args, horizon=max(description.lengths), **settings)
    env = require_simulator(made, "playback")
    recordings = read_trajectories(path, filter_key=filter_key, max_episodes=count)
    return DemoPlayback(env, recordings, description.env_args, count)


@dataclass(frozen=True)
class PlaybackResult:
    """Result of playing back the actions of a trajectory.

    Attributes:
        name: name of the trajectory.
        success: the recorded actions solve the task.
        recorded_success: they did when they were recorded.
        length: number of actions until success, or of all.
        deviation: maximum absolute difference of a position (metres, radians) from the recorded
            one.
    """

    name: str
    success: bool
    recorded_success: bool
    length: int
    deviation: float


def play_actions(source: DemoPlayback) -> Iterator[PlaybackResult]:
    """Play back the executed actions of trajectories from their first states, until success.

    Args:
        source: trajectories and environment.

    Yields:
        One result per trajectory.

    Raises:
        UsageError: a simulator state or model does not fit the environment.
    """
    env = source.env
    for trajectory in source.recordings:
        observation = reset_to_trajectory(env, trajectory, source.env_args)
        deviation = 0.0
        for step, action in enumerate(trajectory.actions, start=1):
            result = env.step(observation.set(ACTION, torch.from_numpy(action)))
            if step < len(trajectory.actions):
                positions = env.positions(env.simulator_state())
                difference = positions - env.positions(trajectory.simulator_states[step])
                deviation = max(deviation, float(np.abs(difference).max()))
            if result[NEXT, SUCCESS]:
                break
            observation = step_mdp(result)
        success = bool(result[NEXT, SUCCESS])
        yield PlaybackResult(trajectory.name, success, trajectory.is_success, step, deviation)


def rerender(source: DemoPlayback, *, tolerance: float) -> Iterator[TensorDict]:
    """Render the observations of trajectories from their simulator states.

    Args:
        source: trajectories, and an environment with the cameras to render.
        tolerance: maximum absolute difference of ``state`` from the recorded one.

    Yields:
        Episodes [T] in TorchRL's layout, as ``record_demos`` does. Rewards are the recorded ones;
        if there are none, 1 where the next state is a success.

    Raises:
        UsageError: a simulator state or model does not fit the environment, or ``state`` differs
            from the recorded one by more than ``tolerance``.
    """
    env = source.env
    for trajectory in source.recordings:
        steps = [reset_to_trajectory(env, trajectory, source.env_args)]
        with _simulator_errors(trajectory):
            steps += [env.set_simulator_state(state) for state in trajectory.simulator_states[1:]]
        last = env.step(steps[-1].clone().set(ACTION, torch.from_numpy(trajectory.actions[-1])))
        observations = TensorDict.stack([step.select(*env.observation_spec) for step in steps])
        next_observations = TensorDict.stack(
            [*observations[1:].unbind(0), last[NEXT].select(*observations.keys())]
        )
        _require_equal(trajectory, observations[STATE].numpy(), tolerance)
        yield _to_episode(trajectory, observations, next_observations)


def reset_to_trajectory(
    env: SparseRewardEnv, trajectory: DemoTrajectory, env_args: Mapping[str, Any]
) -> TensorDictBase:
    """Reset an environment to the first simulator state of a trajectory, in its recorded model.

    Args:
        env: environment of the trajectory's task.
        trajectory: the trajectory.
        env_args: the file's description of the environment, for the simulator version.

    Returns:
        The first observation.

    Raises:
        UsageError: the simulator state or the model does not fit the environment.
    """
    with _simulator_errors(trajectory):
        if trajectory.model_xml is not None:
            env.load_model(trajectory.model_xml, str(env_args.get("env_version", "")))
        env.reset()
        return env.set_simulator_state(trajectory.simulator_states[0])


@contextmanager
def _simulator_errors(trajectory: DemoTrajectory) -> Iterator[None]:
    """Report a simulator state or model that the environment refuses as a ``UsageError``."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{trajectory.name} does not fit the environment: {error}") from error


def _require_equal(trajectory: DemoTrajectory, states: np.ndarray, tolerance: float) -> None:
    if trajectory.states is None:
        return
    if trajectory.states.shape != states.shape:
        raise UsageError(
            f"{trajectory.name}: recorded states have shape {list(trajectory.states.shape)}, "
            f"the environment has {list(states.shape)}; use the settings of the recording"
        )
    differences = np.abs(trajectory.states - states)
    if differences.max() > tolerance:
        step, index = np.unravel_index(differences.argmax(), differences.shape)
        raise UsageError(
            f"{trajectory.name}: number {index} of the state at step {step} was recorded as "
            f"{trajectory.states[step, index]:.6g} and is now {states[step, index]:.6g}; "
            f"raise tolerance={tolerance:g} to accept the difference"
        )


def _to_episode(
    trajectory: DemoTrajectory, observations: TensorDictBase, next_observations: TensorDictBase
) -> TensorDict:
    """Episode [T] in TorchRL's layout, done at its last step."""
    length = len(observations)
    rewards = next_observations[SUCCESS].float()
    if trajectory.rewards is not None:
        rewards = torch.from_numpy(trajectory.rewards).float()[:, None]
    done = torch.zeros(length, 1, dtype=torch.bool)
    done[-1] = True
    episode = observations.exclude(SUCCESS)
    episode[ACTION] = torch.from_numpy(trajectory.actions)
    if trajectory.expert_actions is not None:
        episode[EXPERT_ACTION] = torch.from_numpy(trajectory.expert_actions)
    episode[SIMULATOR_STATE] = torch.from_numpy(trajectory.simulator_states)
    episode[NEXT] = next_observations.exclude(SUCCESS)
    episode[NEXT, REWARD] = rewards
    episode[NEXT, DONE] = done
    if trajectory.model_xml is not None:
        episode.set_non_tensor(MODEL_XML, trajectory.model_xml)
    return episode
