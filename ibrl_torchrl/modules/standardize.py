"""Observation standardisation that lives inside the networks that use it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """Shift and scale an observation by fixed statistics.

    The statistics are buffers: they are saved with the policy or critic that holds them, move
    with it between devices, and are never trained.

    Args:
        mean: float [S].
        std: float [S], positive.

    Raises:
        ValueError: the shapes differ or a standard deviation is not positive.

    Example:
        >>> import torch
        >>> Standardize.from_data(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))(torch.tensor([3.0, 5.0]))
        tensor([2., 0.])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        if mean.shape != std.shape or mean.ndim != 1:
            raise ValueError(f"mean and std must be [S], got {[*mean.shape]} and {[*std.shape]}")
        if not bool((std > 0).all()):
            raise ValueError(f"std must be positive, got a minimum of {std.min().item()}")
        self.register_buffer("mean", mean.detach().clone())
        self.register_buffer("std", std.detach().clone())

    @classmethod
    def identity(cls, size: int) -> Standardize:
        """Leave an observation of ``size`` numbers as it is."""
        return cls(torch.zeros(size), torch.ones(size))

    @classmethod
    def from_data(cls, observations: Tensor, min_std: float = 0.1) -> Standardize:
        """Take the statistics from data, usually the demonstrations.

        Args:
            observations: float [N, S].
            min_std: lower bound of every standard deviation, in units of the observation. A few
                demonstrations hardly move some entries (a goal, a constant); without a floor the
                slightest new value there would swamp the network. Default 0.1: 10 cm in metres.
        """
        std = observations.std(0, correction=0).clamp_min(min_std)
        return cls(observations.mean(0), std)

    def forward(self, observation: Tensor) -> Tensor:
        """Map an observation [*, S] to its standardised form [*, S]."""
        return (observation - self.mean) / self.std
