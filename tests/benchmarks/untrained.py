"""Agents of untrained networks: what they cost is the same."""

import torch

from ibrl_torchrl.builders.agent import bc_policy, build_agent
from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.networks import build_policy
from ibrl_torchrl.builders.normalization import placeholder_scales


def untrained_agent(config, **settings):
    """The agent of a training configuration; settings are those of ``build_agent``."""
    torch.manual_seed(0)
    env = build_env(config.task)
    scales = placeholder_scales(config.task, env)
    eyes, size = config.bc.encoder, env.action_spec.shape[-1]
    network = build_policy(config.bc.network, eyes, scales, env.observation_spec, size)
    bc = bc_policy(network, eyes)
    return build_agent(config.algo, bc, scales, env, torch.device("cpu"), **settings)
