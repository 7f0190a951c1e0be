"""Actions of a run in the bounds of its environment, or of a robot."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchrl.data import Bounded

from ibrl_torchrl.modules.actors import ActionBounds
from ibrl_torchrl.modules.bounds import clip


class ActionScale(nn.Module):
    """Linear map of actions from the bounds of policies to others, after clipping to the first.

    Args:
        spec: actions float32 [A] of the policies.
        low: lowest action to return, a number or float [A].
        high: highest action to return, a number or float [A].
        repeats: number of actions in a row, of a chunk; default 1.

    Raises:
        ValueError: a bound is neither a number nor of shape [A], or is not finite, or ``low`` is
            not less than ``high`` in each dimension.

    Example:
        >>> import torch
        >>> from torchrl.data import Bounded
        >>> scale = ActionScale(Bounded(-1.0, 1.0, (2,)), 0.0, torch.tensor([1.0, 4.0]))
        >>> scale(torch.tensor([0.0, 1.5]))
        tensor([0.5000, 4.0000])
    """

    low: Tensor
    high: Tensor

    def __init__(
        self, spec: Bounded, low: float | Tensor, high: float | Tensor, repeats: int = 1
    ) -> None:
        super().__init__()
        size, space = spec.shape[-1], spec.space
        bounds = ActionBounds(low, high, size)
        self.register_buffer("low", space.low.repeat(repeats))
        self.register_buffer("high", space.high.repeat(repeats))
        self.is_identity = torch.equal(bounds.low, space.low) and torch.equal(
            bounds.high, space.high
        )  # no rounding then
        self.bounds = ActionBounds(
            bounds.low.repeat(repeats), bounds.high.repeat(repeats), size * repeats
        )

    def forward(self, action: Tensor) -> Tensor:
        """Map actions float32 [*, A]."""
        action = clip(action, (self.low, self.high))
        if self.is_identity:
            return action
        return self.bounds(2 * (action - self.low) / (self.high - self.low) - 1)
