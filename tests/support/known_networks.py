"""Agents whose actor and critics are replaced by functions with known values."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from tensordict import TensorDictParams
from torch import Tensor, nn

from ibrl_torchrl.builders.agent import Agent
from ibrl_torchrl.builders.imitation import policy_module
from ibrl_torchrl.modules import FrozenPolicy, Normalize, StateActor

STATE_SIZE = 2


def constant_policy(
    name: str, value: float, action_size: int, dropout: float = 0.0
) -> FrozenPolicy:
    """Imitation policy of states [2] with one hidden unit; every action is ``value``."""
    network = StateActor(Normalize.identity(STATE_SIZE), action_size, hidden=[1], dropout=dropout)
    set_constant_actor(network.parameters(), value)
    return FrozenPolicy(policy_module(network, None, name))


def set_known_networks(
    agent: Agent, rl_action: float, exploration_action: float | None = None
) -> Agent:
    """Let the actor return ``rl_action`` and all critics the first number of an action.

    An exploration actor returns ``exploration_action``, by default the same.
    """
    loss = agent.loss
    if exploration_action is None:
        exploration_action = rl_action
    for actor in (loss.actor_network_params, loss.target_actor_network_params):
        set_constant_actor(layer_tensors(actor), rl_action)
    if "loss_exploration" in agent.terms:
        for actor in (loss.exploration_network_params, loss.target_exploration_network_params):
            set_constant_actor(layer_tensors(actor), exploration_action)
    for critics in (loss.qvalue_network_params, loss.target_qvalue_network_params):
        set_first_number_critics(layer_tensors(critics))
    return agent


@torch.no_grad()
def set_constant_actor(parameters: Iterable[Tensor], value: float) -> None:
    """Let an actor's action be ``value`` in every entry."""
    *_, weight, bias = parameters
    weight.zero_()
    bias.fill_(math.atanh(value))


@torch.no_grad()
def set_first_number_critics(parameters: Iterable[Tensor]) -> None:
    """Let critics with one hidden unit value an action a at relu(a_0 + 1) - 1 = a_0."""
    first, first_bias, last, last_bias = parameters
    first.zero_()
    first[:, STATE_SIZE] = 1.0  # the action follows the state
    first_bias.fill_(1.0)
    last.fill_(1.0)
    last_bias.fill_(-1.0)


def layer_tensors(params: TensorDictParams) -> list[Tensor]:
    """Weights and biases of a loss's network in the order of its layers, without statistics."""
    return [
        value
        for key, value in params.items(include_nested=True, leaves_only=True)
        if "normalize" not in key
    ]


def dropout_probabilities(network: nn.Module) -> list[float]:
    """Dropout probability of each dropout layer."""
    return [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)]
