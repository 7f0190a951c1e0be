"""Weight initialisation."""

from __future__ import annotations

from torch import nn

from ibrl_torchrl.modules.critics.ensemble import EnsembleLinear


def orthogonal_(module: nn.Module) -> None:
    """Make the weights of every linear and convolution layer orthogonal and their biases zero.

    As the original code does for policies, critics and DrQ's encoder; convolutions get the gain of
    a ReLU, sqrt(2). Each member of an ensemble gets weights of its own.
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
