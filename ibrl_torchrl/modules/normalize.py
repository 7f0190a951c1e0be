"""Observation standardisation that lives inside the networks that use it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Choose numbers of an observation, and shift and scale them by fixed statistics.

    The statistics are buffers: they are saved with the policy or critic that holds them, move
    with it between devices, and are never trained.

    Args:
        mean: float [s].
        std: float [s], positive.
        entries: int64 [s], which numbers of the observation are used; None (default): all.

    Raises:
        ValueError: the shapes differ or a standard deviation is not positive.

    Example:
        >>> import torch
        >>> Normalize.from_data(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))(torch.tensor([3.0, 5.0]))
        tensor([2., 0.])
    """

    mean: Tensor
    std: Tensor
    entries: Tensor | None

    def __init__(self, mean: Tensor, std: Tensor, entries: Tensor | None = None) -> None:
        super().__init__()
        if mean.shape != std.shape or mean.ndim != 1:
            raise ValueError(f"mean and std must be [s], got {[*mean.shape]} and {[*std.shape]}")
        if not bool((std > 0).all()):
            raise ValueError(f"std must be positive, got a minimum of {std.min().item()}")
        if entries is not None and entries.shape != mean.shape:
            raise ValueError(f"entries must be {[*mean.shape]}, got {[*entries.shape]}")
        self.register_buffer("mean", mean.detach().clone())
        self.register_buffer("std", std.detach().clone())
        self.register_buffer("entries", None if entries is None else entries.clone())

    @property
    def size(self) -> int:
        """How many numbers come out."""
        return self.mean.numel()

    @classmethod
    def identity(cls, size: int, entries: Tensor | None = None) -> Normalize:
        """Leave an observation of ``size`` numbers, or its ``entries``, as they are."""
        size = size if entries is None else entries.numel()
        return cls(torch.zeros(size), torch.ones(size), entries)

    @classmethod
    def from_data(
        cls, observations: Tensor, min_std: float | Tensor = 0.1, entries: Tensor | None = None
    ) -> Normalize:
        """Take the statistics from data, usually the demonstrations.

        Args:
            observations: float [N, S].
            min_std: lower bound of every standard deviation, or float [S] of each, in units of
                the observation. A few demonstrations hardly move some entries (a goal, how an
                object is turned); without a floor the slightest new value there would swamp the
                network. Default 0.1: 10 cm in metres.
            entries: int64 [s], which of the S numbers are used; None (default): all.
        """
        floor = torch.as_tensor(min_std, dtype=observations.dtype).expand(observations.shape[1])
        std = torch.maximum(observations.std(0, correction=0), floor)
        chosen = slice(None) if entries is None else entries
        return cls(observations.mean(0)[chosen], std[chosen], entries)

    def forward(self, observation: Tensor) -> Tensor:
        """Map an observation [*, S] to its standardised form [*, s]."""
        if self.entries is not None:
            observation = observation.index_select(-1, self.entries)
        return (observation - self.mean) / self.std
