"""Flow policy: noise moved to actions along a learned velocity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ibrl_torchrl.modules.imitation.base import StochasticPolicy
from ibrl_torchrl.modules.imitation.denoiser import Denoiser
from ibrl_torchrl.modules.imitation.features import Features


class FlowPolicy(StochasticPolicy):
    """Policy that integrates a velocity from noise at time 0 to an action at time 1.

    Trained by flow matching (arXiv 2210.02747), see
    :class:`~ibrl_torchrl.objectives.FlowMatchingLoss`; integrated by Euler's method. The noise is
    drawn from N(0, I), or is zero under ``ExplorationType.DETERMINISTIC``.

    Args:
        features: observations as one vector, :class:`StateFeatures` or :class:`PixelFeatures`.
        action_size: number of action dimensions A.
        steps: integration steps, at least 1; default 10. They may change after training.
        hidden: width of each hidden layer, default three of 256.
        dropout: probability of zeroing a hidden unit in train mode, default 0.
        layer_norm: layer norm after each hidden layer's linear map, default False.

    Example:
        >>> import torch
        >>> from ibrl_torchrl.modules import Normalize, StateFeatures
        >>> policy = FlowPolicy(StateFeatures(Normalize.identity(3)), 2, hidden=[8])
        >>> policy(torch.zeros(7, 3)).shape
        torch.Size([7, 2])
    """

    def __init__(
        self,
        features: Features,
        action_size: int,
        *,
        steps: int = 10,
        hidden: Sequence[int] = (256, 256, 256),
        dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__(features)
        self.action_size = action_size
        self.steps = steps
        self.velocity = Denoiser(
            features.size, action_size, hidden=hidden, dropout=dropout, layer_norm=layer_norm
        )

    def act(self, features: Tensor, *, sample: bool) -> Tensor:
        """End [*, A] of the path that starts at a draw from N(0, I), or at zero."""
        action = features.new_zeros(*features.shape[:-1], self.action_size)
        if sample:
            action = torch.randn_like(action)
        for step in range(self.steps):
            time = torch.full_like(action[..., :1], step / self.steps)
            action = action + self.velocity(action, features, time) / self.steps
        return action
