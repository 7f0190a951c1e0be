"""What every learning run starts from: seeds, demonstrations and an imitation policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torchrl.envs import EnvBase

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.networks import build_encoder, observed_keys
from ibrl_torchrl.config.networks import EncoderConfig
from ibrl_torchrl.config.task import DemosConfig, TaskConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.data.demos import (
    Demos,
    check_demos_match,
    load_demos,
    record_demos,
    save_demos,
    simulator_difference,
)
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.experts import scripted_expert


def record_to(path: Path, config: DemosConfig, task: TaskConfig) -> None:
    """Record scripted demonstrations to a file, with a progress bar."""
    env = build_env(single_frames(task))
    expert = scripted_expert(task.suite, task.name, config.noise, seed=config.seed)
    episodes = record_demos(env, expert, config.episodes, seed=config.seed)
    save_demos(
        path,
        progress_bar(episodes, desc="demos", total=config.episodes, unit="episode"),
        env.env_args,
    )


def single_frames(task: TaskConfig) -> TaskConfig:
    """The task as files hold it: every observation once."""
    return replace(task, frame_stack=1, state_stack=1)


def demo_keys(*encoders: EncoderConfig | None) -> list[str]:
    """What demonstrations must hold for policies with these encoders."""
    return [*dict.fromkeys(key for encoder in encoders for key in observed_keys(encoder))]


def require_images_fit(env: EnvBase, *encoders: EncoderConfig | None) -> None:
    """Refuse images that an encoder cannot take; random states stay as they are.

    Raises:
        UsageError: a camera is not rendered, or the images do not suit a network.
    """
    with torch.random.fork_rng(devices=[]):
        for encoder in encoders:
            if encoder is not None:
                build_encoder(encoder, env.observation_spec)


def given_demos(
    config: DemosConfig, task: TaskConfig, env: EnvBase, keys: list[str]
) -> Demos | None:
    """The demonstrations of ``demos.path``, if there is one.

    Raises:
        UsageError: the file is damaged, does not fit the task, or holds too few episodes; or there
            is none and nobody to record one.
    """
    if config.path is None:
        scripted_expert(task.suite, task.name)  # refuses tasks without one before a run begins
        return None
    demos = load_demos(
        config.path,
        keys=keys,
        max_episodes=config.episodes,
        filter_key=config.filter_key,
        frame_stack=task.frame_stack,
        state_stack=task.state_stack,
    )
    if len(demos.episodes) < config.episodes:
        raise UsageError(
            f"{config.path}: holds {len(demos.episodes)} episodes, "
            f"demos.episodes={config.episodes}; ask for fewer"
        )
    check_demos_match(demos, env)
    if (difference := simulator_difference(demos, env)) is not None:
        echo(f"warning: {difference}")
    return demos


def recorded_demos(config: DemosConfig, task: TaskConfig, keys: list[str], run_dir: Path) -> Demos:
    """Scripted demonstrations, recorded to ``demos.hdf5`` in the run folder and read back.

    An interrupted run has them already.
    """
    path = run_dir / "demos.hdf5"
    if not path.exists():
        record_to(path, config, task)
    return load_demos(path, keys=keys, frame_stack=task.frame_stack, state_stack=task.state_stack)
