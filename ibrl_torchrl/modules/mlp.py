"""MLP of policy networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ibrl_torchrl.modules.dropout import FastDropout


def relu_mlp(
    in_features: int,
    hidden: Sequence[int],
    out_features: int,
    dropout: float,
    *,
    layer_norm: bool,
) -> nn.Sequential:
    """MLP with dropout between layer norm and ReLU, as in the original code.

    TorchRL's MLP places dropout before the norm, which then removes dropout's scale.

    Args:
        in_features: size of the input.
        hidden: width of each hidden layer: linear, layer norm if set, dropout, ReLU.
        out_features: size of the output, of a linear layer.
        dropout: probability of zeroing a hidden unit in train mode; 0: no dropout layers.
        layer_norm: layer norm after each hidden layer's linear map.
    """
    sizes = [in_features, *hidden]
    layers: list[nn.Module] = []
    for size, width in pairwise(sizes):
        layers.append(nn.Linear(size, width))
        layers += [nn.LayerNorm(width)] if layer_norm else []
        layers += [FastDropout(dropout)] if dropout else []
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(sizes[-1], out_features))
