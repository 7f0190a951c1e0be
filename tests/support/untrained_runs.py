"""Run folders of untrained agents, which act as trained ones do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import OmegaConf

from ibrl_torchrl.builders.agent import build_agent
from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.imitation import frozen_policies, policy_path, save_policy
from ibrl_torchrl.builders.normalization import identity_normalizers
from ibrl_torchrl.builders.policies import build_imitation_policy
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.runs.checkpoint import FALLBACK, KIND, save_checkpoint
from ibrl_torchrl.runs.names import CHECKPOINT, CONFIG
from ibrl_torchrl.runs.spaces import write_spaces

SMALL = ("algo.actor.hidden=[8]", "algo.critic.hidden=[8]")


def write_untrained_run(
    run: Path, *settings: str, method: str = "ibrl", networks: Sequence[str] = SMALL
) -> Path:
    """Write the run folder of an untrained box-close agent; returns its path.

    Args:
        run: folder to create.
        settings: settings of the run.
        method: option of ``algo``.
        networks: settings of the networks' sizes, by default small ones.
    """
    run.mkdir()
    overrides = ["task=metaworld/box-close", "task.horizon=10", "collector.workers=0"]
    overrides += [f"algo={method}", f"run_dir={run}", *networks, *settings]
    config = parse(TrainConfig, composed("train", overrides))
    OmegaConf.save(OmegaConf.structured(config), run / CONFIG)
    torch.manual_seed(0)
    env = build_env(config.task)
    write_spaces(run, env)
    normalizers = identity_normalizers(config.task, env)
    action_size = env.action_spec.shape[-1]
    policies = {
        name: build_imitation_policy(
            policy, normalizers, env.observation_spec, action_size * policy.chunk.size
        )
        for name, policy in config.imitation.items()
    }
    for name, network in policies.items():
        save_policy(policy_path(run, name), network, config.imitation[name], config.task)
    agent = build_agent(
        config.algo,
        frozen_policies(policies, config.imitation),
        normalizers,
        env,
        torch.device("cpu"),
        chunks=config.imitation_chunks,
        cached_proposals=config.replay.cache_proposals,
    )
    meta = {"task": config.task.label, "frames": 120}
    state = {"loss": agent.loss.state_dict()}
    if agent.fallback is not None:
        state[FALLBACK] = agent.fallback.test.state_dict()
    save_checkpoint(run / CHECKPOINT, KIND, meta, state)
    return run
