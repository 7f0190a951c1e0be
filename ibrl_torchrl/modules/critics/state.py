"""Critic ensembles of states and actions, and their TensorDict interface."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor, nn
from torchrl.modules import MLP

from ibrl_torchrl.keys import ACTION, STATE_ACTION_VALUE
from ibrl_torchrl.modules.critics.base import CriticEnsembleBase, require_action_key
from ibrl_torchrl.modules.critics.ensemble import EnsembleMLP
from ibrl_torchrl.modules.critics.network import CriticNetwork, per_action
from ibrl_torchrl.modules.critics.outputs import CriticOutput, ScalarOutput
from ibrl_torchrl.modules.fast_module import FastTensorDictModule
from ibrl_torchrl.modules.normalize import Normalize

# For batches up to this size, indexing the weights of a subset of members takes longer than
# evaluating all members.
_SMALL_BATCH = 16


class StateCriticEnsemble(CriticNetwork):
    """Ensemble of independently initialised Q-networks of state vectors and an action.

    Several state vectors are concatenated before they are normalised. The defaults are those of the
    paper from states (arXiv 2311.02198, appendix E). A subset of the critics can be evaluated at
    its own cost.

    Args:
        normalize: observation statistics; its ``size`` is the size of the MLP's state input.
        action_size: number of action dimensions A.
        num_critics: number of critics E, default 5.
        hidden: width of each hidden layer, default three of 1024.
        layer_norm: layer norm after each hidden layer, default True.
        output: :class:`~ibrl_torchrl.modules.HLGauss` for histograms of values; None (default):
            values.

    Raises:
        ValueError: ``num_critics`` is less than 1.

    Example:
        >>> import torch
        >>> from ibrl_torchrl.modules import Normalize
        >>> critics = StateCriticEnsemble(Normalize.identity(39), 4, hidden=[64, 64])
        >>> critics(torch.zeros(2, 39), torch.zeros(2, 4)).shape
        torch.Size([2, 5])
        >>> critics(torch.zeros(2, 39), torch.zeros(2, 4), members=torch.tensor([3, 1])).shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        normalize: Normalize,
        action_size: int,
        *,
        num_critics: int = 5,
        hidden: Sequence[int] = (1024, 1024, 1024),
        layer_norm: bool = True,
        output: CriticOutput | None = None,
    ) -> None:
        super().__init__()
        if num_critics < 1:
            raise ValueError(f"num_critics must be at least 1, got {num_critics}")
        self.num_critics = num_critics
        self.normalize = normalize
        self.output = output or ScalarOutput()
        self.mlp = EnsembleMLP(
            num_critics,
            normalize.size + action_size,
            hidden,
            self.output.size,
            layer_norm=layer_norm,
        )
        self.output.initialize_(self.mlp.head.bias)

    def outputs(self, *inputs: Tensor, members: Tensor | None = None) -> Tensor:
        """Outputs of all critics, or those of ``members``.

        Args:
            inputs: one or more state vectors float [*, S], whose batch shape is broadcast to that
                of the action, then the action float [*, A].
            members: int64 [K], indices of the critics to evaluate; None (default): all.

        Returns:
            float [E, B, V], or [K, B, V] in the order of ``members``; B are the rows of [*].
        """
        *states, action = inputs
        state = states[0] if len(states) == 1 else torch.cat(states, -1)
        batch = action.shape[:-1]
        if members is not None and batch.numel() <= _SMALL_BATCH:
            return self.outputs(state, action)[members]
        count = self.num_critics if members is None else members.numel()
        state = self.normalize(state).expand(*batch, -1)
        joint = torch.cat([state, action], -1)
        joint = joint.reshape(1, batch.numel(), joint.shape[-1])
        return self.mlp(joint.expand(count, -1, -1), members)


class StateCritic(nn.Module):
    """Q-network of state vectors and an action, for losses that hold their critics separately.

    Args:
        normalize: observation statistics; its ``size`` is the size of the state input.
        action_size: number of action dimensions A.
        hidden: width of each hidden layer, default three of 1024.
        layer_norm: layer norm after each hidden layer, default True.
        outputs: number of outputs V: 1 (default), or the quantiles of TQC.

    Example:
        >>> import torch
        >>> from ibrl_torchrl.modules import Normalize
        >>> critic = StateCritic(Normalize.identity(39), 4, hidden=[64])
        >>> critic(torch.zeros(2, 39), torch.zeros(2, 4)).shape
        torch.Size([2, 1])
    """

    def __init__(
        self,
        normalize: Normalize,
        action_size: int,
        *,
        hidden: Sequence[int] = (1024, 1024, 1024),
        layer_norm: bool = True,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.mlp = MLP(
            in_features=normalize.size + action_size,
            out_features=outputs,
            num_cells=[*hidden],
            activation_class=nn.ReLU,
            norm_class=nn.LayerNorm if layer_norm else None,
            norm_kwargs=[{"normalized_shape": size} for size in hidden] if layer_norm else None,
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map state vectors float [*, S] and actions float [*, A] to values [*, V]."""
        *states, action = inputs
        return self.mlp(torch.cat([self.normalize(torch.cat(states, -1)), action], -1))


class CriticEnsemble(FastTensorDictModule, CriticEnsembleBase):
    """TensorDict module of a batched critic ensemble.

    ``forward(tensordict, members=None)`` writes the values float [*, E].

    Args:
        network: module with an attribute ``num_critics`` and ``forward(*observations, action,
            members=None)`` that returns [*, E], or [*, K] for K ``members``, such as
            :class:`StateCriticEnsemble`. For N actions of one observation, observations have batch
            shape [*, 1] and actions [*, N], so that what depends on the observation alone is
            computed once. The ``output`` of a :class:`~ibrl_torchrl.modules.CriticNetwork` says how
            a target trains it; others are trained by squared errors.
        in_keys: keys of observations and action, in the order of the network's arguments; keys may
            be nested.
        out_key: key of the values, default ``"state_action_value"``.
        action_key: key of the action among ``in_keys``, default ``"action"``.

    Raises:
        ValueError: ``in_keys`` does not contain ``action_key``.
    """

    def __init__(
        self,
        network: nn.Module,
        in_keys: Sequence[NestedKey],
        out_key: NestedKey = STATE_ACTION_VALUE,
        *,
        action_key: NestedKey = ACTION,
    ) -> None:
        require_action_key(in_keys, action_key)
        super().__init__(network, in_keys=[*in_keys], out_keys=[out_key])
        self.action_key = action_key

    @property
    def num_critics(self) -> int:
        """Number of critics E."""
        return self.module.num_critics

    def evaluate(
        self, tensordict: TensorDictBase, candidates: Tensor, members: Tensor | None = None
    ) -> Tensor:
        """Values [*, N, E] of candidates [*, N, A]."""
        # Calls the network directly: a TensorDict of its inputs costs as much as a small network.
        at = tensordict.ndim
        inputs = [
            candidates if key == self.action_key else tensordict.get(key).unsqueeze(at)
            for key in self.in_keys
        ]
        return self.module(*inputs, members=members)

    def regression(self, tensordict: TensorDictBase, target: Tensor) -> tuple[Tensor, Tensor]:
        """Values [*, E] of the action and their losses [*, E], those of the network's output."""
        network = self.module
        if not isinstance(network, CriticNetwork):
            return super().regression(tensordict, target)
        outputs = network.outputs(*(tensordict.get(key) for key in self.in_keys))
        losses = network.output.loss(outputs, target.reshape(1, -1))
        batch = tensordict.batch_size
        return per_action(network.output.decode(outputs), batch), per_action(losses, batch)
