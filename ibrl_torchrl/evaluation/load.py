"""Trained agent of a run folder, without optimisers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torchrl.envs import EnvBase

from ibrl_torchrl.builders.agent import Agent, build_agent
from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.imitation import frozen_policies, load_policies
from ibrl_torchrl.builders.normalization import identity_normalizers
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.envs.spaces import Spaces
from ibrl_torchrl.keys import HYBRID
from ibrl_torchrl.runs.checkpoint import (
    FALLBACK,
    KIND,
    SELF_IMITATION,
    load_checkpoint,
    load_state,
)
from ibrl_torchrl.runs.contents import entry
from ibrl_torchrl.runs.folder import read_config
from ibrl_torchrl.runs.names import CHECKPOINT
from ibrl_torchrl.runs.origin import origin_differences, stored_origin
from ibrl_torchrl.runtime import setup_process


@dataclass(frozen=True)
class LoadedRun:
    """Agent of a run.

    Attributes:
        config: settings of the run.
        env: new environment of its task.
        agent: agent with the networks of the checkpoint.
        frames: training frames of the checkpoint.
    """

    config: TrainConfig
    env: EnvBase
    agent: Agent
    frames: int


def load_run(
    run_dir: Path, checkpoint: str = CHECKPOINT, *, seed: int, threads: int | None, device: str
) -> LoadedRun:
    """Load a run's agent from its folder; warn if the folder has been changed since.

    Args:
        run_dir: run folder.
        checkpoint: file in it, such as ``"best.pt"``; default the last checkpoint.
        seed: seed of the process.
        threads: threads of PyTorch; None for all cores.
        device: device of the networks.

    Raises:
        UsageError: the folder is not a run's, its checkpoint does not fit its configuration, or
            there is no such device.
    """
    config = parse(TrainConfig, read_config(run_dir))
    torch_device = setup_process(seed, threads, device)
    env = build_env(config.task, torch_device)
    agent, frames = load_agent(run_dir, config, env, torch_device, checkpoint)
    return LoadedRun(config, env, agent, frames)


def load_agent(
    run_dir: Path,
    config: TrainConfig,
    env: EnvBase | Spaces,
    device: torch.device,
    checkpoint: str = CHECKPOINT,
) -> tuple[Agent, int]:
    """Load an agent and the training frames of its checkpoint.

    Args:
        run_dir: run folder.
        config: its settings.
        env: environment of its task, or the environment's spaces.
        device: device of the networks.
        checkpoint: file of the folder; default the last checkpoint.

    Raises:
        UsageError: a file is missing, damaged, or does not fit the settings.
    """
    path = run_dir / checkpoint
    meta, state = load_checkpoint(path, KIND, {"task": config.task.label})
    if "origin" in meta:
        for difference in origin_differences(run_dir, stored_origin(meta, path)):
            echo(f"warning: {difference}")
    networks = load_policies(run_dir, config.imitation, config.task, env)
    for name, policy in config.imitation.items():
        if policy.self_imitation.every is not None:  # the file holds its initial weights
            trained = entry(entry(state, SELF_IMITATION, dict, path), name, dict, path)
            load_state(networks[name], entry(trained, "policy", dict, path), path)
    agent = build_agent(
        config.algo,
        frozen_policies(networks, config.imitation),
        identity_normalizers(config.task, env),
        env,
        device,
        chunks=config.imitation_chunks,
        cached_proposals=config.replay.cache_proposals,
    )
    load_state(agent.loss, entry(state, "loss", dict, path), path)
    if agent.fallback is not None:  # decided for good, as training has ended here
        load_state(agent.fallback.test, entry(state, FALLBACK, dict, path), path)
        agent = replace(agent, policies=agent.policies | {HYBRID: agent.fallback.active})
    return agent, entry(meta, "frames", int, path)
