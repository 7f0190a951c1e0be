"""First stage of a run: demonstrations, from a file or recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchrl.envs import EnvBase

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.experts import demo_expert
from ibrl_torchrl.builders.networks import build_encoder, policy_keys
from ibrl_torchrl.config.compose import task_option
from ibrl_torchrl.config.networks import EncoderConfig
from ibrl_torchrl.config.task import DemosConfig, TaskConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.data.demos import (
    Demos,
    check_demos_match,
    load_demos,
    match_native_actions,
    record_demos,
    save_demos,
    simulator_difference,
)
from ibrl_torchrl.data.demos.read import read_description
from ibrl_torchrl.envs.env_args import suite_of
from ibrl_torchrl.envs.spaces import Spaces
from ibrl_torchrl.errors import UsageError, unknown_name
from ibrl_torchrl.keys import PROPRIO, STATE
from ibrl_torchrl.runs.names import DEMOS

# By an observation that an environment may lack.
_REMEDIES = {
    STATE: "choose encoders, which read images: experiment=small_pixels",
    PROPRIO: "set encoder.proprio=false, or task.proprio to entries of a gym task's observation",
}


def require_images_fit(env: EnvBase, encoders: Iterable[EncoderConfig | None]) -> None:
    """Refuse observations that networks cannot read; random states are left unchanged.

    Args:
        env: environment of the task.
        encoders: encoder of each network; None reads the state.

    Raises:
        UsageError: a camera is not rendered, the images do not fit a network, or the environment
            does not observe the state or the proprioception that networks read.
    """
    encoders = [*encoders]
    for key in policy_keys(*encoders):
        if key in _REMEDIES and key not in env.observation_spec:
            raise UsageError(f"the environment does not observe {key}; {_REMEDIES[key]}")
    with torch.random.fork_rng(devices=[]):
        for encoder in encoders:
            if encoder is not None:
                build_encoder(encoder, env.observation_spec)


def load_configured_demos(
    config: DemosConfig, task: TaskConfig, env: EnvBase, keys: Sequence[str]
) -> Demos | None:
    """Demonstrations of ``demos.path``; None if they have to be recorded.

    Raises:
        UsageError: the file is damaged, does not fit the task, or holds too few episodes; or there
            is none, and no scripted expert of the task.
    """
    if config.path is None:
        demo_expert(config, task)
        return None
    _require_task(Path(config.path), env)
    for key in config.keys:
        if key not in env.observation_spec:
            raise unknown_name("observation", key, map(str, env.observation_spec.keys()))
    demos = load_demos(
        config.path,
        keys=keys,
        key_map=config.keys,
        max_episodes=config.episodes,
        filter_key=config.filter_key,
        action_bounds=_native_bounds(env) if config.native_actions else None,
        frame_stack=task.frame_stack,
        state_stack=task.state_stack,
    )
    if len(demos.episodes) < config.episodes:
        raise UsageError(
            f"{config.path}: holds {len(demos.episodes)} episodes, "
            f"demos.episodes={config.episodes}; use fewer"
        )
    demos = match_native_actions(demos, env)
    check_demos_match(demos, env)
    if (difference := simulator_difference(demos, env)) is not None:
        echo(f"warning: {difference}")
    return demos


def _native_bounds(env: EnvBase) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (low, high) of the actions of an environment below its transforms, float32 [A]."""
    space = Spaces.of(env).native_action_spec.space
    return space.low.cpu().numpy(), space.high.cpu().numpy()


def _require_task(path: Path, env: EnvBase) -> None:
    """Refuse demonstrations of another task, and name the one that they need.

    Raises:
        UsageError: the file names another task, or is no file of demonstrations.
    """
    recorded = read_description(path)
    current: Mapping[str, Any] = getattr(env, "env_args", {})
    name, needed = recorded.get("env_name"), current.get("env_name")
    if None in (name, needed) or name == needed:
        return
    option = task_option(suite_of(recorded), str(name))
    remedy = "record some of this task" if option is None else f"use task={option}"
    raise UsageError(f"{path}: is of the task {name}, the environment is {needed}; {remedy}")


def recorded_demos(
    config: DemosConfig, task: TaskConfig, keys: Sequence[str], run_dir: Path
) -> Demos:
    """Scripted demonstrations of the run folder, recorded if it has none yet."""
    path = run_dir / DEMOS
    if not path.exists():
        record_to(path, config, task)
    return load_demos(path, keys=keys, frame_stack=task.frame_stack, state_stack=task.state_stack)


def record_to(path: Path, config: DemosConfig, task: TaskConfig) -> None:
    """Record scripted demonstrations to a file, with a progress bar."""
    env = build_env(replace(task, frame_stack=1, state_stack=1))  # files hold single observations
    expert = demo_expert(config, task, config.noise)
    episodes = record_demos(env, expert, config.episodes, seed=config.seed)
    recorded = progress_bar(episodes, desc="demos", total=config.episodes, unit="episode")
    save_demos(path, recorded, env)
