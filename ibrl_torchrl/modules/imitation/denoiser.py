"""Network of a noisy action and a time, which flow and diffusion policies integrate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ibrl_torchrl.modules.mlp import relu_mlp

_FREQUENCIES = 4


class Denoiser(nn.Module):
    """MLP of a noisy action, features of the observation, and a time.

    The time enters as sine and cosine of pi, 2 pi, 4 pi and 8 pi times it.

    Args:
        features_size: size F of the features.
        action_size: number of action dimensions A.
        hidden: width of each hidden layer.
        dropout: probability of zeroing a hidden unit in train mode.
        layer_norm: layer norm after each hidden layer's linear map.
    """

    def __init__(
        self,
        features_size: int,
        action_size: int,
        *,
        hidden: Sequence[int],
        dropout: float,
        layer_norm: bool,
    ) -> None:
        super().__init__()
        inputs = action_size + features_size + 2 * _FREQUENCIES
        self.mlp = relu_mlp(inputs, hidden, action_size, dropout, layer_norm=layer_norm)

    def forward(self, action: Tensor, features: Tensor, time: Tensor) -> Tensor:
        """Map noisy actions [*, A], features [*, F] and times [*, 1] in [0, 1] to [*, A]."""
        phases = torch.cat([math.pi * 2**k * time for k in range(_FREQUENCIES)], -1)
        return self.mlp(torch.cat([action, features, phases.sin(), phases.cos()], -1))
