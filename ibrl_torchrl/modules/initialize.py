"""Weight initialisation."""

from __future__ import annotations

from torch import nn

from ibrl_torchrl.modules.critics.ensemble import EnsembleLinear


def orthogonal_(module: nn.Module) -> None:
    """Orthogonal initialisation of all linear and 2D convolution layers, with zero biases.

    As in the original code for policies, critics and DrQ's encoder. Gain 1 for linear layers and
    sqrt(2), that of a ReLU, for convolutions. The members of an ensemble are drawn independently.

    Args:
        module: module whose layers are initialised in place.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight)
        elif isinstance(layer, nn.Conv2d):
            nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"))
        elif isinstance(layer, EnsembleLinear):
            for weight in layer.weight.detach():
                nn.init.orthogonal_(weight.T)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
