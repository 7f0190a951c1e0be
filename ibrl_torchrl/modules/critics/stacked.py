"""Critic ensemble of one network with stacked parameters, the form of TorchRL's losses."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from tensordict import TensorDictBase, TensorDictParams
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor, nn

from ibrl_torchrl.keys import ACTION, STATE_ACTION_VALUE
from ibrl_torchrl.modules.critics.base import (
    CriticEnsembleBase,
    CriticReduction,
    candidate_inputs,
    require_action_key,
)

Reduction = Callable[[Tensor], Tensor]


def evaluate_stacked(
    network: TensorDictModuleBase,
    params: TensorDictBase,
    tensordict: TensorDictBase,
    candidates: Tensor,
    *,
    action_key: NestedKey = ACTION,
    value_key: NestedKey = STATE_ACTION_VALUE,
    randomness: str = "different",
) -> Tensor:
    """Values of candidate actions by one network with stacked parameters.

    Args:
        network: reads observations and ``action_key``, writes values float [*, V].
        params: parameters and buffers of E critics, batch shape [E].
        tensordict: observations, batch shape [*].
        candidates: float [*, N, A].
        action_key: key of the action, default ``"action"``.
        value_key: key of the values, default ``"state_action_value"``.
        randomness: of random operations such as dropout, see ``torch.vmap``: ``"different"``
            (default) for each critic, ``"same"`` or ``"error"``.

    Returns:
        Values float [*, N, E, V].
    """
    observations = [key for key in network.in_keys if key != action_key]
    inputs = candidate_inputs(tensordict, observations, candidates, action_key)

    def evaluate(member: TensorDictBase) -> Tensor:
        # preserve_module_state=False: plain tensors must not become trainable parameters.
        with member.to_module(network, preserve_module_state=False):
            return network(inputs.copy()).get(value_key)

    return torch.vmap(evaluate, randomness=randomness, out_dims=-2)(params)


class StackedCritics(CriticEnsembleBase):
    """Critic ensemble of one network with stacked parameters.

    TorchRL's losses hold E critics as one network and a TensorDict of parameters with batch shape
    [E]. This module lets a selector read those, so that the critics which choose while acting are
    the ones that the loss trains.

    Writes values float [*, E] under ``"state_action_value"``.

    Args:
        network: reads observations and the action, writes values [*, V].
        params: parameters of E critics, batch shape [E]; a reference, not a copy.
        action_key: key of the action, default ``"action"``.
        value_key: key of the network's values, default ``"state_action_value"``.
        reduction: maps values [*, N, E, V] to [*, N], whatever is asked of ``reduce``; None
            (default): as asked, the minimum or the mean over critics, which have V = 1 then.

    Raises:
        ValueError: the network does not read ``action_key``.
    """

    def __init__(
        self,
        network: TensorDictModuleBase,
        params: TensorDictParams,
        *,
        action_key: NestedKey = ACTION,
        value_key: NestedKey = STATE_ACTION_VALUE,
        reduction: Reduction | None = None,
    ) -> None:
        super().__init__()
        require_action_key(network.in_keys, action_key)
        self.params = params
        # Not a registered child: it runs with the stacked parameters only.
        self.__dict__["network"] = network
        self.action_key = action_key
        self.value_key = value_key
        self._reduction = reduction
        self.in_keys = [*network.in_keys]
        self.out_keys = [STATE_ACTION_VALUE]

    @property
    def num_critics(self) -> int:
        """Number of critics E."""
        return self.params.shape[0]

    def evaluate(
        self, tensordict: TensorDictBase, candidates: Tensor, members: Tensor | None = None
    ) -> Tensor:
        """Values [*, N, E] of candidates [*, N, A]; with a reduction of their own [*, N, E, V]."""
        params = self.params if members is None else self.params[members]
        values = evaluate_stacked(
            self.__dict__["network"],
            params,
            tensordict,
            candidates,
            action_key=self.action_key,
            value_key=self.value_key,
        )
        return values.squeeze(-1) if self._reduction is None else values

    def reduce(self, values: Tensor, reduction: CriticReduction = "min") -> Tensor:
        """Value of each candidate, [*, N]."""
        if self._reduction is None:
            return super().reduce(values, reduction)
        return self._reduction(values)

    def subset(self, values: Tensor, members: Tensor | None) -> Tensor:
        """Values of the critics ``members``; of quantile critics, all their quantiles."""
        if members is None or self._reduction is None:
            return super().subset(values, members)
        return values[..., members, :]

    def per_critic(self, values: Tensor) -> Tensor:
        """Value of each critic, [*, N, E]; of quantile critics, the mean of their quantiles."""
        return values if self._reduction is None else values.mean(-1)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the values of the action, [*, E]."""
        action = tensordict.get(self.action_key).unsqueeze(-2)
        values = self.per_critic(self.evaluate(tensordict, action))
        return tensordict.set(self.out_keys[0], values.squeeze(-2))


class UnrolledCritics(StackedCritics):
    """Stacked critics as E networks, without ``torch.vmap``, for ``torch.export``.

    Holds copies of the parameters as they are now; values are those of the stacked critics.

    Args:
        critics: stacked critics.
    """

    def __init__(self, critics: StackedCritics) -> None:
        network = critics.__dict__["network"]
        super().__init__(
            network,
            critics.params,
            action_key=critics.action_key,
            value_key=critics.value_key,
            reduction=critics._reduction,
        )
        members = []
        for params in critics.params.data.clone().unbind(0):
            member = copy.deepcopy(network)
            params.to_module(member)
            members.append(member.requires_grad_(False))
        del self.params
        self.members = nn.ModuleList(members)

    @property
    def num_critics(self) -> int:
        """Number of critics E."""
        return len(self.members)

    def evaluate(
        self, tensordict: TensorDictBase, candidates: Tensor, members: Tensor | None = None
    ) -> Tensor:
        """Values [*, N, E] of candidates [*, N, A]; with a reduction of their own [*, N, E, V]."""
        observations = [key for key in self.in_keys if key != self.action_key]
        inputs = candidate_inputs(tensordict, observations, candidates, self.action_key)
        values = torch.stack(
            [member(inputs.copy()).get(self.value_key) for member in self.members], -2
        )
        if self._reduction is None:
            values = values.squeeze(-1)
        return self.subset(values, members)
