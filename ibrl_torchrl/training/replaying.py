"""Demonstrations played again in the simulator: by their actions, or state by state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.envs.utils import step_mdp

from ibrl_torchrl.data.recordings import Recording
from ibrl_torchrl.envs.sparse import SparseRewardEnv
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import (
    ACTION,
    DONE,
    MODEL_XML,
    NEXT,
    REWARD,
    SIMULATOR_STATE,
    STATE,
    SUCCESS,
)


@dataclass(frozen=True)
class Outcome:
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


def replay_actions(
    env: SparseRewardEnv, recordings: Iterable[Recording], env_args: Mapping[str, Any]
) -> Iterator[Outcome]:
    """Play the actions of episodes from their first simulator states, until success.

    Args:
        env: the environment they were recorded in, or one like it.
        recordings: the episodes.
        env_args: of their file.

    Raises:
        UsageError: a simulator state or model does not fit the environment.
    """
    for recording in recordings:
        observation = begin(env, recording, env_args)
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
        yield Outcome(recording.name, bool(result[NEXT, SUCCESS]), step, deviation)


def render_again(
    env: SparseRewardEnv,
    recordings: Iterable[Recording],
    env_args: Mapping[str, Any],
    *,
    tolerance: float,
) -> Iterator[TensorDict]:
    """Make the observations of episodes from their simulator states.

    Args:
        env: the environment they were recorded in, or one like it, with the cameras wanted.
        recordings: the episodes.
        env_args: of their file.
        tolerance: largest difference from recorded numbers.

    Yields:
        Episodes [T] in TorchRL's layout, as ``record_demos`` does. Rewards are the recorded ones;
        where there are none, 1 where the state that followed is a success.

    Raises:
        UsageError: a simulator state or model does not fit the environment, or the numbers of an
            observation differ from the recorded ones.
    """
    for recording in recordings:
        begin(env, recording, env_args)
        with _fitting(recording):
            seen = [env.set_simulator_state(state) for state in recording.simulator_states]
        last = env.step(seen[-1].clone().set(ACTION, torch.from_numpy(recording.actions[-1])))
        observations = torch.stack([each.select(*env.observation_spec) for each in seen])
        after = torch.stack([*observations[1:].unbind(0), last[NEXT].select(*observations.keys())])
        _require_equal(recording, observations[STATE].numpy(), tolerance)
        yield _episode(recording, observations, after)


def begin(
    env: SparseRewardEnv, recording: Recording, env_args: Mapping[str, Any]
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
def _fitting(recording: Recording) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{recording.name} does not fit the environment: {error}") from error


def _require_equal(recording: Recording, states: np.ndarray, tolerance: float) -> None:
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


def _episode(recording: Recording, seen: TensorDict, after: TensorDict) -> TensorDict:
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
