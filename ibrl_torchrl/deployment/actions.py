"""Actions of a run in the bounds of its environment, or of a robot."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchrl.data import Bounded

Bounds = tuple[Tensor, Tensor]  # (low, high), each float32 [A]


class ActionScale(nn.Module):
    """Linear map of actions from the bounds of policies to others, after clipping to the first.

    Args:
        spec: actions float32 [A] of the policies.
        bounds: bounds of the actions to return.
        repeats: number of actions in a row, of a chunk; default 1.

    Raises:
        ValueError: the bounds are not finite, or low is not below high.

    Example:
        >>> spec = Bounded(-1.0, 1.0, (2,))
        >>> scale = ActionScale(spec, (torch.zeros(2), torch.tensor([1.0, 4.0])))
        >>> scale(torch.tensor([0.0, 1.5]))
        tensor([0.5000, 4.0000])
    """

    low: Tensor
    high: Tensor
    out_low: Tensor
    out_high: Tensor

    def __init__(self, spec: Bounded, bounds: Bounds, repeats: int = 1) -> None:
        super().__init__()
        low, high = bounds
        if not bool(torch.isfinite(torch.stack(bounds)).all()) or not bool((low < high).all()):
            raise ValueError(
                f"action bounds must be finite, low < high, got {low.tolist()}, {high.tolist()}"
            )
        self.register_buffer("low", spec.space.low.repeat(repeats))
        self.register_buffer("high", spec.space.high.repeat(repeats))
        self.register_buffer("out_low", low.repeat(repeats))
        self.register_buffer("out_high", high.repeat(repeats))
        same = torch.equal(self.low, self.out_low) and torch.equal(self.high, self.out_high)
        self.is_identity = same  # no rounding then

    def forward(self, action: Tensor) -> Tensor:
        """Map actions float32 [*, A]."""
        action = torch.minimum(torch.maximum(action, self.low), self.high)
        if self.is_identity:
            return action
        share = (action - self.low) / (self.high - self.low)
        return self.out_low + share * (self.out_high - self.out_low)


def action_bounds(spec: Bounded, low: object = None, high: object = None) -> Bounds:
    """Bounds as tensors [A].

    Args:
        spec: space whose bounds are those of None.
        low: number, array [A] or None.
        high: the same.

    Raises:
        ValueError: an array has another size.
    """

    def tensor(value: object, default: Tensor) -> Tensor:
        if value is None:
            return default
        given = torch.as_tensor(value, dtype=torch.float32)
        if given.ndim and given.shape != default.shape:
            raise ValueError(
                f"action bounds must be numbers or {[*default.shape]}, got {[*given.shape]}"
            )
        return given.expand(default.shape)

    return tensor(low, spec.space.low), tensor(high, spec.space.high)
