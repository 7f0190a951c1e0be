"""Action bounds: clipping, with and without a gradient."""

from __future__ import annotations

import torch
from torch import Tensor

Bounds = tuple[float | Tensor, float | Tensor]  # (low, high): numbers, or one for each dimension


def clip(action: Tensor, bounds: Bounds) -> Tensor:
    """Clip actions float [*, A] to bounds, numbers or tensors [A]."""
    low, high = bounds
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        low = torch.as_tensor(low, dtype=action.dtype, device=action.device)
        high = torch.as_tensor(high, dtype=action.dtype, device=action.device)
        return torch.minimum(torch.maximum(action, low), high)
    return action.clamp(low, high)


def clip_straight_through(action: Tensor, bounds: Bounds) -> Tensor:
    """Clipped actions float [*, A] with the gradient of the unclipped ones.

    Without it, an actor whose action is at a bound would get no gradient away from it.
    """
    return action + (clip(action, bounds) - action).detach()


def require_bounds(low: Tensor, high: Tensor) -> None:
    """Check that bounds are ordered.

    Raises:
        ValueError: ``low`` is not below ``high``.
    """
    if not bool((low < high).all()):
        raise ValueError(
            f"action bounds must be low < high, got low={low.tolist()}, high={high.tolist()}"
        )
