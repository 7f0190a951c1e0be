"""Outputs of critics: what a network's numbers mean as a value, and how a target trains them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softmax

# Mass of every bin at first, beside that of the initial value: logits stay moderate, and with 101
# bins the value is off by half a per cent of the support.
_FLOOR = 1e-4


class CriticOutput(nn.Module, ABC):
    """Base class of outputs.

    Attributes:
        size: numbers V that the network gives for one value.
    """

    size: int

    @abstractmethod
    def decode(self, outputs: Tensor) -> Tensor:
        """Value float [*] of outputs float [*, V]."""

    @abstractmethod
    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Loss float [*] of outputs float [*, V] for a target value, broadcast to [*]."""

    def initialize_(self, bias: Tensor) -> None:
        """Set the bias float [..., V] of the last layer; by default it stays as it is."""


class ScalarOutput(CriticOutput):
    """The value itself, trained by its squared error."""

    size = 1

    def decode(self, outputs: Tensor) -> Tensor:
        """Value [*] of outputs [*, 1]."""
        return outputs.squeeze(-1)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Squared error [*]."""
        return (self.decode(outputs) - target).pow(2)


class HLGauss(CriticOutput):
    """Histogram of values, trained by the cross-entropy to a Gaussian around the target (HL-Gauss).

    Imani & White's histogram loss (arXiv 1806.04613) for values of reinforcement learning
    (Farebrother et al., arXiv 2403.03950, section 3.1). The network gives logits of ``bins`` equal
    bins between ``v_min`` and ``v_max``. A target y becomes the probabilities that a normal
    distribution of mean y and standard deviation ``sigma_ratio`` bin widths has in each bin,
    divided by those of the whole support. The value is the expectation, softmax times centres.

    ``encode``, ``decode`` and ``loss`` are those of TorchRL's ``SymExpTwoHot``, whose bins are wide
    for returns in [0, 1] and whose targets have no width.

    Targets outside of the support are moved to its end. Where the Gaussian is cut off there, the
    expectation of a target is off by up to 0.6 bin widths inwards; the default support has a margin
    around returns in [0, 1], those of a single reward of 1 at success.

    Args:
        v_min: lowest value of the support, default -0.1.
        v_max: highest value, above ``v_min``; default 1.1.
        bins: number of bins V, at least 2; default 101.
        sigma_ratio: standard deviation of the Gaussian in bin widths, above 0; default 0.75.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> import torch
        >>> output = HLGauss(v_min=0.0, v_max=1.0, bins=4)
        >>> output.encode(torch.tensor(0.5))  # bins [0, 0.25), [0.25, 0.5), ...
        tensor([0.0881, 0.4119, 0.4119, 0.0881])
        >>> output.decode(output.encode(torch.tensor(0.5)).log())
        tensor(0.5000)
    """

    edges: Tensor
    centres: Tensor

    def __init__(
        self,
        v_min: float = -0.1,
        v_max: float = 1.1,
        *,
        bins: int = 101,
        sigma_ratio: float = 0.75,
    ) -> None:
        super().__init__()
        if not v_min < v_max:
            raise ValueError(f"v_min must be below v_max, got {v_min} and {v_max}")
        if bins < 2 or sigma_ratio <= 0:
            raise ValueError(
                f"bins must be at least 2 and sigma_ratio above 0, got {bins} and {sigma_ratio}"
            )
        self.size = bins
        self.v_min, self.v_max = v_min, v_max
        self.sigma = sigma_ratio * (v_max - v_min) / bins
        edges = torch.linspace(v_min, v_max, bins + 1)
        # Parameters: moving a loss replaces buffers, so that policies which share them would not
        # follow.
        self.edges = nn.Parameter(edges, requires_grad=False)
        self.centres = nn.Parameter((edges[1:] + edges[:-1]) / 2, requires_grad=False)

    def encode(self, target: Tensor) -> Tensor:
        """Probabilities of the bins, float [*, V], for target values float [*]."""
        target = target.clamp(self.v_min, self.v_max).unsqueeze(-1)
        cumulative = torch.special.ndtr((self.edges - target) / self.sigma)
        mass = cumulative[..., -1:] - cumulative[..., :1]
        return cumulative.diff(dim=-1) / mass

    def decode(self, outputs: Tensor) -> Tensor:
        """Expectation [*] of logits [*, V]."""
        return softmax(outputs, -1) @ self.centres

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy [*] of logits [*, V]."""
        return -(self.encode(target) * log_softmax(outputs, -1)).sum(-1)

    @torch.no_grad()
    def initialize_(self, bias: Tensor) -> None:
        """Let the histogram of the bias alone be that of the value 0.

        Equal logits would have the middle of the support as their value, an error that decays only
        through bootstrapping, by a factor of gamma^n per update of the targets.
        """
        bias.copy_((self.encode(bias.new_zeros(())) + _FLOOR).log())
