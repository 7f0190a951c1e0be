"""Trained networks of an agent, from settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from tensordict.nn import TensorDictModuleBase
from torch import nn
from torchrl.data import Composite, TensorSpec

from ibrl_torchrl.builders.losses import Networks
from ibrl_torchrl.builders.networks import (
    build_encoder,
    build_feature_actor,
    build_feature_critics,
    build_residual_actor,
    build_separate_critics,
    build_state_actor,
    build_state_critics,
    build_stochastic_actor,
    policy_keys,
    proprio_keys,
)
from ibrl_torchrl.builders.normalization import Normalizers
from ibrl_torchrl.config.algo import AlgoConfig
from ibrl_torchrl.config.networks import EncoderConfig
from ibrl_torchrl.keys import (
    ACTION,
    EXPLORATION_ACTION,
    FEATURES,
    RL_ACTION,
    image_key,
    proposal_key,
)
from ibrl_torchrl.modules import CriticEnsemble, FastTensorDictModule, ResidualAndActor


def build_agent_networks(
    algo: AlgoConfig,
    normalizers: Normalizers,
    spec: Composite,
    action_spec: TensorSpec,
    device: torch.device,
) -> Networks:
    """Encoder, actor and critics of an agent.

    Args:
        algo: settings of the algorithm.
        normalizers: observation statistics; every network gets a copy.
        spec: observations of the environment.
        action_spec: space of what is chosen: an action, or a chunk of them.
        device: device of the networks.
    """
    if algo.loss.algorithm != "td3":
        networks = _separate_networks(algo, normalizers, action_spec)
    elif algo.encoder is None:
        networks = _state_networks(algo, normalizers, spec, action_spec.shape[-1])
    else:
        size = action_spec.shape[-1]
        networks = _pixel_networks(algo, algo.encoder, normalizers, spec, size)
    critic = networks.critic
    return Networks(
        networks.encoder and networks.encoder.to(device),
        networks.actor.to(device),
        [each.to(device) for each in critic] if isinstance(critic, list) else critic.to(device),
        networks.exploration and networks.exploration.to(device),
    )


def _state_networks(
    algo: AlgoConfig, normalizers: Normalizers, spec: Composite, action_size: int
) -> Networks:
    obs_keys = policy_keys(None)
    build_actor = partial(build_state_actor, algo.actor, normalizers, action_size)
    if algo.residual is None:
        actor: nn.Module = build_actor()
        actor_keys = obs_keys
    else:
        scale = algo.residual.scale
        actor = build_residual_actor(algo.actor, normalizers, spec, action_size, scale)
        if algo.residual.own_action:
            actor = ResidualAndActor(actor, build_actor())
        actor_keys = [*obs_keys, proposal_key(algo.residual.base)]
    exploration = _exploration_actor(build_actor, obs_keys) if algo.exploration_actor else None
    critics = build_state_critics(algo.critic, normalizers, action_size)
    return Networks(
        None,
        FastTensorDictModule(actor, in_keys=actor_keys, out_keys=[RL_ACTION]),
        CriticEnsemble(critics, in_keys=[*obs_keys, ACTION]),
        exploration,
    )


def _exploration_actor(
    build_actor: Callable[[], nn.Module], obs_keys: Sequence[str]
) -> TensorDictModuleBase:
    return FastTensorDictModule(build_actor(), in_keys=obs_keys, out_keys=[EXPLORATION_ACTION])


def _separate_networks(
    algo: AlgoConfig, normalizers: Normalizers, action_spec: TensorSpec
) -> Networks:
    """Stochastic actor and separate critics, as TorchRL's losses take them."""
    outputs = algo.loss.quantiles if algo.loss.algorithm == "tqc" else 1
    return Networks(
        None,
        build_stochastic_actor(algo.actor, normalizers, action_spec),
        build_separate_critics(algo.critic, normalizers, action_spec.shape[-1], outputs),
    )


def _pixel_networks(
    algo: AlgoConfig,
    config: EncoderConfig,
    normalizers: Normalizers,
    spec: Composite,
    action_size: int,
) -> Networks:
    encoder = build_encoder(config, spec)
    shape = encoder.feature_shape
    build_actor = partial(build_feature_actor, algo.actor, config, shape, normalizers, action_size)
    actor = build_actor()
    obs_keys = [FEATURES, *proprio_keys(config)]
    exploration = _exploration_actor(build_actor, obs_keys) if algo.exploration_actor else None
    critics = build_feature_critics(algo.critic, config, shape, normalizers, action_size)
    return Networks(
        FastTensorDictModule(
            encoder, in_keys=[*map(image_key, config.cameras)], out_keys=[FEATURES]
        ),
        FastTensorDictModule(actor, in_keys=obs_keys, out_keys=[RL_ACTION]),
        CriticEnsemble(critics, in_keys=[*obs_keys, ACTION]),
        exploration,
    )
