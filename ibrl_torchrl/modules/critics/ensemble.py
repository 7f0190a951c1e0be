"""Ensemble layers: independent networks evaluated by batched matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, zip_longest

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EnsembleLinear(nn.Module):
    """Ensemble of linear layers, evaluated by one batched matrix product.

    Each member is initialised as a separate ``torch.nn.Linear``.

    Args:
        members: number of members E.
        in_features: input size I.
        out_features: output size O.
    """

    def __init__(self, members: int, in_features: int, out_features: int) -> None:
        super().__init__()
        layers = [nn.Linear(in_features, out_features) for _ in range(members)]
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach()[None] for layer in layers]))

    def forward(self, inputs: Tensor, members: Tensor | None = None) -> Tensor:
        """Map inputs float [E, B, I] to [E, B, O].

        Args:
            inputs: float [E, B, I], or [K, B, I] with ``members``.
            members: int64 [K], indices of the members to evaluate; None (default): all.
        """
        if members is None:
            return torch.baddbmm(self.bias, inputs, self.weight)
        return torch.baddbmm(self.bias[members], inputs, self.weight[members])


class EnsembleLayerNorm(nn.Module):
    """Ensemble of layer norms over the last dimension.

    Args:
        members: number of members E.
        features: size H of the normalised dimension.
    """

    def __init__(self, members: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, 1, features))
        self.bias = nn.Parameter(torch.zeros(members, 1, features))

    def forward(self, inputs: Tensor, members: Tensor | None = None) -> Tensor:
        """Normalise inputs float [E, B, H].

        Args:
            inputs: float [E, B, H], or [K, B, H] with ``members``.
            members: int64 [K], indices of the members to evaluate; None (default): all.
        """
        normalised = F.layer_norm(inputs, inputs.shape[-1:])
        if members is None:
            return torch.addcmul(self.bias, normalised, self.weight)
        return torch.addcmul(self.bias[members], normalised, self.weight[members])


class EnsembleMLP(nn.Module):
    """Ensemble of MLPs, with layer norm and ReLU after each hidden layer.

    Args:
        members: number of members E.
        in_features: input size I.
        hidden: width of each hidden layer.
        out_features: output size O, default 1.
        layer_norm: layer norm after each hidden layer, default True.
    """

    def __init__(
        self,
        members: int,
        in_features: int,
        hidden: Sequence[int],
        out_features: int = 1,
        *,
        layer_norm: bool = True,
    ) -> None:
        super().__init__()
        sizes = [in_features, *hidden]
        self.layers = nn.ModuleList(EnsembleLinear(members, *pair) for pair in pairwise(sizes))
        self.norms = nn.ModuleList(
            EnsembleLayerNorm(members, size) for size in hidden if layer_norm
        )
        self.head = EnsembleLinear(members, sizes[-1], out_features)

    def forward(self, inputs: Tensor, members: Tensor | None = None) -> Tensor:
        """Map inputs float [E, B, I] to [E, B, O].

        Args:
            inputs: float [E, B, I], or [K, B, I] with ``members``.
            members: int64 [K], indices of the members to evaluate; None (default): all.
        """
        for layer, norm in zip_longest(self.layers, self.norms):
            inputs = layer(inputs, members)
            inputs = F.relu(inputs if norm is None else norm(inputs, members))
        return self.head(inputs, members)
