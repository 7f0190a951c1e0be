"""Deterministic policies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchrl.modules import MLP

from ibrl_torchrl.modules.standardize import Standardize


class StateActor(nn.Module):
    """A deterministic policy of a state vector: standardise, MLP, tanh.

    The RL actor and the imitation policy from states are both of this class. Dropout in the actor
    is one of the paper's ingredients (section 4.1: 0.5, on during updates, off when acting).

    Args:
        standardize: observation statistics; gives the state size S.
        action_size: number of action dimensions A.
        hidden: width of each hidden layer, default three of 1024.
        dropout: probability of zeroing a hidden unit in train mode, default 0.5.
        layer_norm: normalise after each hidden layer, default False.
    """

    def __init__(
        self,
        standardize: Standardize,
        action_size: int,
        *,
        hidden: Sequence[int] = (1024, 1024, 1024),
        dropout: float = 0.5,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.standardize = standardize
        self.mlp = MLP(
            in_features=standardize.mean.numel(),
            out_features=action_size,
            num_cells=[*hidden],
            activation_class=nn.ReLU,
            norm_class=nn.LayerNorm if layer_norm else None,
            norm_kwargs=[{"normalized_shape": size} for size in hidden] if layer_norm else None,
            dropout=dropout or None,
        )

    def forward(self, state: Tensor) -> Tensor:
        """Map a state [*, S] to an action [*, A] in [-1, 1]."""
        return torch.tanh(self.mlp(self.standardize(state)))
