"""Observation normalisation as a layer of the networks that read the observation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Normalisation by fixed mean and standard deviation, of all or some entries and differences.

    Differences of entries, such as the positions of an object and of the hand, are what a few
    demonstrations have in common that begin with the object elsewhere.

    The statistics are buffers: part of the ``state_dict`` of the policy or critic that contains
    them, moved with ``.to()``, not trained. They follow the observation's device, since
    ``Module.to`` does not reach the buffers of weight-sharing copies, which act.

    Args:
        mean: float [s].
        std: float [s], positive.
        entries: int64 [n], indices of the observation's entries to keep; None (default): all.
        differences: int64 [d, 2], pairs (i, j) of indices, for each of which the output also has
            entry i minus entry j; None (default): none. They follow the entries: s = n + d.

    Raises:
        ValueError: the shapes differ, or a standard deviation is not positive.

    Example:
        >>> import torch
        >>> Normalize.from_data(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))(torch.tensor([3.0, 5.0]))
        tensor([2., 0.])
        >>> relative = Normalize.identity(2, differences=torch.tensor([[1, 0]]))
        >>> relative(torch.tensor([3.0, 5.0]))
        tensor([3., 5., 2.])
    """

    mean: Tensor
    std: Tensor
    entries: Tensor | None
    differences: Tensor | None

    def __init__(
        self,
        mean: Tensor,
        std: Tensor,
        entries: Tensor | None = None,
        differences: Tensor | None = None,
    ) -> None:
        super().__init__()
        if mean.shape != std.shape or mean.ndim != 1:
            raise ValueError(f"mean and std must be [s], got {[*mean.shape]} and {[*std.shape]}")
        if not bool((std > 0).all()):
            raise ValueError(f"std must be positive, got a minimum of {std.min().item()}")
        pairs = 0 if differences is None else len(differences)
        if differences is not None and differences.shape != (pairs, 2):
            raise ValueError(f"differences must be [d, 2], got {[*differences.shape]}")
        if entries is not None and entries.shape != (mean.numel() - pairs,):
            raise ValueError(f"entries must be [{mean.numel() - pairs}], got {[*entries.shape]}")
        self.register_buffer("mean", mean.detach().clone())
        self.register_buffer("std", std.detach().clone())
        self.register_buffer("entries", None if entries is None else entries.clone())
        self.register_buffer("differences", None if differences is None else differences.clone())

    @property
    def size(self) -> int:
        """Size s of the output."""
        return self.mean.numel()

    @classmethod
    def identity(
        cls, size: int, entries: Tensor | None = None, differences: Tensor | None = None
    ) -> Normalize:
        """Normalisation by mean 0 and standard deviation 1, which changes no value.

        Args:
            size: size S of the observation.
            entries: int64 [n], indices of the entries to keep; None (default): all.
            differences: int64 [d, 2], pairs of entries to subtract; None (default): none.
        """
        size = size if entries is None else entries.numel()
        size += 0 if differences is None else len(differences)
        return cls(torch.zeros(size), torch.ones(size), entries, differences)

    @classmethod
    def from_data(
        cls,
        observations: Tensor,
        min_std: float | Tensor = 0.1,
        entries: Tensor | None = None,
        differences: Tensor | None = None,
        min_std_difference: float | Tensor = 0.03,
    ) -> Normalize:
        """Normalisation by the statistics of a dataset, usually the demonstrations.

        Args:
            observations: float [N, S].
            min_std: lower bound of the standard deviations, a number or float [S], in units of the
                observation. Some entries (a goal, an object's orientation) hardly vary over a few
                demonstrations; without a bound, small deviations there would become large inputs.
                Default 0.1, 10 cm for positions in metres.
            entries: int64 [n], indices of the entries to keep; None (default): all.
            differences: int64 [d, 2], pairs of entries to subtract; None (default): none.
            min_std_difference: lower bound for differences, a number or float [d]. It may be lower,
                as the differences of another initial state are those of the demonstrations.
                Default 0.03.
        """
        lower_bound = torch.as_tensor(min_std).to(observations).expand(observations.shape[1])
        std = torch.maximum(observations.std(0, correction=0), lower_bound)
        kept = slice(None) if entries is None else entries
        mean, std = observations.mean(0)[kept], std[kept]
        if differences is not None:
            relative = _subtract(observations, differences)
            mean = torch.cat([mean, relative.mean(0)])
            bound = torch.as_tensor(min_std_difference).to(observations)
            std = torch.cat([std, torch.maximum(relative.std(0, correction=0), bound)])
        return cls(mean, std, entries, differences)

    def forward(self, observation: Tensor) -> Tensor:
        """Normalise observations float [*, S] to [*, s]."""
        if self.mean.device != observation.device:
            self.to(observation.device)
        kept = observation
        if self.entries is not None:
            kept = observation.index_select(-1, self.entries)
        if self.differences is not None:
            kept = torch.cat([kept, _subtract(observation, self.differences)], -1)
        return (kept - self.mean) / self.std

    def inverse(self, normalized: Tensor) -> Tensor:
        """Undo the normalisation, of all entries and without differences, float [*, s] to [*, s].

        Example:
            >>> import torch
            >>> Normalize(torch.tensor([5.0]), torch.tensor([2.0])).inverse(torch.tensor([-1.0]))
            tensor([3.])
        """
        if self.mean.device != normalized.device:
            self.to(normalized.device)
        return normalized * self.std + self.mean


def _subtract(observation: Tensor, pairs: Tensor) -> Tensor:
    """Differences [*, d] of entries of observations [*, S], by their pairs of indices [d, 2]."""
    minuend, subtrahend = pairs.unbind(-1)
    return observation.index_select(-1, minuend) - observation.index_select(-1, subtrahend)
