"""Initialisation of an actor by the weights of an imitation policy."""

from __future__ import annotations

import math
from typing import cast

import torch
from tensordict.nn import TensorDictModuleBase, biased_softplus
from torch import nn
from torchrl.modules import ProbabilisticActor

from ibrl_torchrl.builders.losses import Networks
from ibrl_torchrl.modules import (
    CVAEPolicy,
    PixelPolicy,
    ResidualAndActor,
    StateActor,
    StateFeatures,
)


@torch.no_grad()
def initialize_actor(networks: Networks, pretrained: nn.Module, std: float) -> None:
    """Copy an imitation policy's weights to the actor and, from pixels, to the encoder.

    Beside an edit it is the actor's own action that is initialised.

    The actor's action, of a stochastic actor its mode, is then the imitation policy's; of a
    conditional variational autoencoder that of z = 0, whose weights are left out.

    Args:
        networks: networks of the agent.
        pretrained: deterministic policy, or :class:`CVAEPolicy` of states, of the actor's widths.
        std: standard deviation of a stochastic actor before tanh, in every state.
    """
    if isinstance(pretrained, PixelPolicy):
        assert networks.encoder is not None
        _copy_by_position(networks.encoder.module, pretrained.encoder)
        _copy_by_position(networks.actor.module, pretrained.actor)
        return
    normalize, mlp = _layers(pretrained)
    actor = _network(networks.actor)
    actor_normalize, actor_mlp = _layers(actor)
    _copy_by_position(actor_normalize, normalize)
    layers = zip(_linear_layers(mlp), _linear_layers(actor_mlp), strict=True)
    for source, layer in layers:
        layer.weight[: source.out_features] = source.weight[:, : layer.in_features]
        layer.bias[: source.out_features] = source.bias
    if isinstance(actor, nn.Sequential):
        *_, extractor = actor
        last = _linear_layers(actor_mlp)[-1]
        last.weight[source.out_features :] = 0
        last.bias[source.out_features :] = _softplus_input(std, extractor.scale_mapping)


def _network(actor: TensorDictModuleBase) -> nn.Module:
    if isinstance(actor, ProbabilisticActor):
        return cast(nn.Module, actor.module[0].module)
    network = cast(nn.Module, actor.module)
    return network.actor if isinstance(network, ResidualAndActor) else network


def _layers(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Normalisation and MLP of a policy of states."""
    if isinstance(network, CVAEPolicy):
        assert isinstance(network.features, StateFeatures)
        return network.features.normalize, network.decoder
    if isinstance(network, StateActor):
        return network.normalize, network.mlp
    normalize, mlp, _ = cast(nn.Sequential, network)
    return normalize, mlp


def _linear_layers(mlp: nn.Module) -> list[nn.Linear]:
    return [module for module in mlp.modules() if isinstance(module, nn.Linear)]


def _softplus_input(std: float, mapping: biased_softplus) -> float:
    """What a mapping softplus(x + bias) + minimum turns into ``std``."""
    return math.log(math.expm1(std - mapping.min_val)) - float(mapping.bias)


def _copy_by_position(network: nn.Module, source: nn.Module) -> None:
    # By position: dropout, which may differ, counts among the layers that names number.
    tensors = zip(network.state_dict().values(), source.state_dict().values(), strict=True)
    for tensor, value in tensors:
        tensor.copy_(value)
