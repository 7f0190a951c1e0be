"""Layers that run several independent networks as one batched computation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EnsembleLinear(nn.Module):
    """``members`` independent linear layers, one batched product.

    Every member has its own weights and one bias a unit, initialised exactly as a separate
    ``torch.nn.Linear`` would be.

    Args:
        members: number of networks E.
        in_features: input size I.
        out_features: output size O.
    """

    def __init__(self, members: int, in_features: int, out_features: int) -> None:
        super().__init__()
        layers = [nn.Linear(in_features, out_features) for _ in range(members)]
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach()[None] for layer in layers]))

    def forward(self, inputs: Tensor, members: Tensor | None = None) -> Tensor:
        """Map [E, B, I], or [K, B, I] with ``members`` of [K] indices, to the same with O."""
        if members is None:
            return torch.baddbmm(self.bias, inputs, self.weight)
        return torch.baddbmm(self.bias[members], inputs, self.weight[members])


class EnsembleLayerNorm(nn.Module):
    """``members`` independent layer norms over the last dimension.

    Args:
        members: number of networks E.
        features: size H of the normalised dimension.
    """

    def __init__(self, members: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, 1, features))
        self.bias = nn.Parameter(torch.zeros(members, 1, features))

    def forward(self, inputs: Tensor, members: Tensor | None = None) -> Tensor:
        """Normalise [E, B, H], or [K, B, H] with ``members`` of [K] indices."""
        normalised = F.layer_norm(inputs, inputs.shape[-1:])
        if members is None:
            return torch.addcmul(self.bias, normalised, self.weight)
        return torch.addcmul(self.bias[members], normalised, self.weight[members])
