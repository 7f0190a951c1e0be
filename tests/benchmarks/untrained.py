"""Agents and learners with untrained networks, as fast as trained ones."""

import torch

from ibrl_torchrl.builders.agent import build_agent
from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.imitation import frozen_policies
from ibrl_torchrl.builders.networks import build_policy
from ibrl_torchrl.builders.normalization import identity_normalizers


def untrained_agent(config, **settings):
    """Agent of a training configuration; ``settings`` are arguments of ``build_agent``."""
    torch.manual_seed(0)
    env = build_env(config.task)
    normalizers = identity_normalizers(config.task, env)
    spec, size = env.observation_spec, env.action_spec.shape[-1]
    networks = {
        name: build_policy(policy.network, policy.encoder, normalizers, spec, size)
        for name, policy in config.imitation.items()
    }
    policies = frozen_policies(networks, config.imitation)
    return build_agent(config.algo, policies, normalizers, env, torch.device("cpu"), **settings)
