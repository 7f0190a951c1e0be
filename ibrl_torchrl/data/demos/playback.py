"""Demonstrations played again in the simulator: by their actions, or state by state."""

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
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import ACTION, DONE, MODEL_XML, NEXT, REWARD, SIMULATOR_STATE, STATE, SUCCESS


@dataclass(frozen=True)
class DemoPlayback:
    """Recorded episodes and an environment to play them in.

    Attributes:
        env: one like that of the file.
        recordings: the episodes, each read when it is asked for.
        env_args: of the file.
        count: how many episodes there are.
    """

    env: SparseRewardEnv
    recordings: Iterator[DemoTrajectory]
    env_args: Mapping[str, Any]
    count: int


def open_playback(
    path: Path, filter_key: str | None = None, episodes: int | None = None, **settings: Any
) -> DemoPlayback:
    """The first episodes of a file.

    Args:
        path: the file.
        filter_key: name of a list of episodes in it; None takes all.
        episodes: at most so many; None takes all.
        settings: arguments of the environment, instead of the file's.

    Raises:
        UsageError: the file is damaged, or its environment cannot be made.
    """
    about = describe_demos(path, filter_key)
    count = min(len(about.episodes), episodes or len(about.episodes))
    env = make_env_like(about.env_args, horizon=max(about.lengths), **settings)
    recordings = read_trajectories(path, filter_key=filter_key, max_episodes=count)
    return DemoPlayback(env, recordings, about.env_args, count)


@dataclass(frozen=True)
class PlaybackResult:
    """What became of a recorded episode.

    Attributes:
        name: of the episode.
        success: the recorded actions solved the task again.
        length: actions until then, or all.
        deviation: largest distance of a position (metres, radians) from the recorded one.
    """

    name: str
    success: bool
    length: int
    deviation: float


def play_actions(source: DemoPlayback) -> Iterator[PlaybackResult]:
    """Play the actions of episodes from their first simulator states, until success.

    Raises:
        UsageError: a simulator state or model does not fit the environment.
    """
    env = source.env
    for recording in source.recordings:
        observation = reset_to_trajectory(env, recording, source.env_args)
        deviation = 0.0
        for step, action in enumerate(recording.actions, start=1):
            result = env.step(observation.set(ACTION, torch.from_numpy(action)))
            if step < len(recording.actions):
                away = env.positions(env.simulator_state())
                away = away - env.positions(recording.simulator_states[step])
                deviation = max(deviation, float(np.abs(away).max()))
            if result[NEXT, SUCCESS]:
                break
            observation = step_mdp(result)
        yield PlaybackResult(recording.name, bool(result[NEXT, SUCCESS]), step, deviation)


def rerender(source: DemoPlayback, *, tolerance: float) -> Iterator[TensorDict]:
    """Make the observations of episodes from their simulator states.

    Args:
        source: the episodes, and an environment with the cameras wanted.
        tolerance: largest difference from recorded numbers.

    Yields:
        Episodes [T] in TorchRL's layout, as ``record_demos`` does. Rewards are the recorded ones;
        where there are none, 1 where the state that followed is a success.

    Raises:
        UsageError: a simulator state or model does not fit the environment, or the numbers of an
            observation differ from the recorded ones.
    """
    env = source.env
    for recording in source.recordings:
        seen = [reset_to_trajectory(env, recording, source.env_args)]
        with _fitting(recording):
            seen += [env.set_simulator_state(state) for state in recording.simulator_states[1:]]
        last = env.step(seen[-1].clone().set(ACTION, torch.from_numpy(recording.actions[-1])))
        observations = torch.stack([each.select(*env.observation_spec) for each in seen])
        after = torch.stack([*observations[1:].unbind(0), last[NEXT].select(*observations.keys())])
        _require_equal(recording, observations[STATE].numpy(), tolerance)
        yield _episode(recording, observations, after)


def reset_to_trajectory(
    env: SparseRewardEnv, recording: DemoTrajectory, env_args: Mapping[str, Any]
) -> TensorDictBase:
    """Put an environment where a recorded episode begins, in the model that it was recorded in.

    Returns:
        The first observation.

    Raises:
        UsageError: the simulator state or the model does not fit the environment.
    """
    with _fitting(recording):
        if recording.model_xml is not None:
            env.load_model(recording.model_xml, str(env_args.get("env_version", "")))
        env.reset()
        return env.set_simulator_state(recording.simulator_states[0])


@contextmanager
def _fitting(recording: DemoTrajectory) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{recording.name} does not fit the environment: {error}") from error


def _require_equal(recording: DemoTrajectory, states: np.ndarray, tolerance: float) -> None:
    if recording.states is None:
        return
    if recording.states.shape != states.shape:
        raise UsageError(
            f"{recording.name}: recorded states have shape {list(recording.states.shape)}, "
            f"the environment gives {list(states.shape)}"
        )
    away = np.abs(recording.states - states)
    if away.max() > tolerance:
        step, index = np.unravel_index(away.argmax(), away.shape)
        raise UsageError(
            f"{recording.name}: number {index} of the state at step {step} was recorded as "
            f"{recording.states[step, index]:.6g} and is now {states[step, index]:.6g}; "
            f"if that will do, raise tolerance={tolerance:g}"
        )


def _episode(recording: DemoTrajectory, seen: TensorDict, after: TensorDict) -> TensorDict:
    length = len(seen)
    rewards = after[SUCCESS].float()
    if recording.rewards is not None:
        rewards = torch.from_numpy(recording.rewards).float()[:, None]
    done = torch.zeros(length, 1, dtype=torch.bool)
    done[-1] = True
    episode = seen.exclude(SUCCESS)
    episode[ACTION] = torch.from_numpy(recording.actions)
    episode[SIMULATOR_STATE] = torch.from_numpy(recording.simulator_states)
    episode[NEXT] = after.exclude(SUCCESS)
    episode[NEXT, REWARD] = rewards
    episode[NEXT, DONE] = done
    if recording.model_xml is not None:
        episode.set_non_tensor(MODEL_XML, recording.model_xml)
    return episode
