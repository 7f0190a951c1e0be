"""Prioritized sampling without TorchRL's compiled segment trees.

TorchRL's ``PrioritizedSampler`` needs segment trees from its C++ extension, and the extension of a
TorchRL wheel loads only with the torch release it was built for. This module replaces the trees
alone. It can be removed when ``test_compiled_segment_trees_are_missing`` fails.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchrl.data import PrioritizedSampler


class _Tree:
    """Interface of a segment tree as ``PrioritizedSampler`` uses it, on a flat tensor."""

    def __init__(
        self, capacity: int, neutral: float, dtype: torch.dtype, device: torch.device | None
    ) -> None:
        self.values = torch.full((capacity,), neutral, dtype=dtype, device=device)

    def __getitem__(self, index: Tensor | int) -> Tensor:
        return self.values[index]

    def __setitem__(self, index: Tensor | int, value: Tensor | float) -> None:
        self.values[index] = torch.as_tensor(
            value, dtype=self.values.dtype, device=self.values.device
        )


class _SumTree(_Tree):
    def query(self, start: int, stop: int) -> float:
        return self.values[start:stop].double().sum().item()

    def scan_lower_bound(self, mass: Tensor) -> Tensor:
        cumulative = self.values.double().cumsum(0)
        mass = torch.as_tensor(mass, dtype=torch.double, device=cumulative.device)
        return torch.searchsorted(cumulative, mass, right=True)


class _MinTree(_Tree):
    def query(self, start: int, stop: int) -> float:
        return self.values[start:stop].min().item()


class PortablePrioritizedSampler(PrioritizedSampler):
    """TorchRL's ``PrioritizedSampler`` (Schaul et al., arXiv 1511.05952) on plain tensors.

    Takes the same arguments and gives the same probabilities ``(p + eps)^alpha / sum`` and weights
    ``(P / min P)^-beta``. Drawing a batch is linear in the capacity, instead of logarithmic.

    Args:
        max_capacity: capacity of the storage.
        alpha: exponent of the priorities.
        beta: exponent of the importance weights.
        eps: added to priorities, default 1e-8.
        device: device of the priorities; it becomes that of the storage. Default the CPU.

    Example:
        >>> from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
        >>> from ibrl_torchrl.data.replay import PortablePrioritizedSampler
        >>> replay = TensorDictReplayBuffer(
        ...     storage=LazyTensorStorage(1000),
        ...     sampler=PortablePrioritizedSampler(1000, alpha=0.6, beta=0.4),
        ...     priority_key="td_error",
        ... )
    """

    def _init(self) -> None:
        self._sum_tree = _SumTree(self._max_capacity, 0.0, self.dtype, self._device)
        self._min_tree = _MinTree(self._max_capacity, float("inf"), self.dtype, self._device)
        self._max_priority = None

    def state_dict(self) -> dict[str, Any]:
        """Return the priorities, which ``torch.load(weights_only=True)`` can read."""
        return {
            "sum": self._sum_tree.values.clone(),
            "min": self._min_tree.values.clone(),
            "max": self._max_priority,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned, of a sampler of the same capacity.

        Raises:
            ValueError: the capacity differs, a priority is negative or not finite, or the highest
                is not above 0; nothing is loaded.
        """
        total, minimum, maximum = (state_dict[name] for name in ("sum", "min", "max"))
        for values in (total, minimum):
            if values.shape != self._sum_tree.values.shape or values.dtype != self.dtype:
                raise ValueError(f"priorities of {[*values.shape]} transitions, {values.dtype}")
            if bool((values < 0).any()) or bool(values.isnan().any()):
                raise ValueError("a priority is negative or NaN")
        if not bool(total.isfinite().all()):
            raise ValueError("a priority is infinite")
        _require_maximum(maximum, self._max_capacity)
        self._sum_tree.values.copy_(total)
        self._min_tree.values.copy_(minimum)
        self._max_priority = maximum


def _require_maximum(maximum: Any, capacity: int) -> None:
    """Refuse what is not TorchRL's pair of highest priority and its index, or None."""
    if maximum is None:
        return
    value, index = (None if part is None else float(part) for part in maximum)
    # New transitions have it: of 0 they would never be sampled.
    if value is not None and not 0 < value < float("inf"):
        raise ValueError(f"the highest priority is {value}")
    if index is not None and not 0 <= index < capacity:
        raise ValueError(f"the highest priority is of transition {index} of {capacity}")
