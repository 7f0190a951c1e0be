"""Base class of networks that compute all critics of an ensemble together."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ibrl_torchrl.modules.critics.outputs import CriticOutput


class CriticNetwork(nn.Module, ABC):
    """Base class of batched critic networks, whose outputs an ``output`` decodes to values.

    Attributes:
        num_critics: number of critics E.
        output: meaning of the network's outputs.
    """

    num_critics: int
    output: CriticOutput

    @abstractmethod
    def outputs(self, *inputs: Tensor, members: Tensor | None = None) -> Tensor:
        """Outputs of all critics, or those of ``members``.

        Args:
            inputs: observations, then the action float [*, A].
            members: int64 [K], indices of the critics to evaluate; None (default): all.

        Returns:
            float [K, B, V], with B the rows of the batch shape [*] and E instead of K without
            ``members``.
        """

    def forward(self, *inputs: Tensor, members: Tensor | None = None) -> Tensor:
        """Values float [*, E], or [*, K] in the order of ``members``; arguments as ``outputs``."""
        values = self.output.decode(self.outputs(*inputs, members=members))
        return per_action(values, inputs[-1].shape[:-1])


def per_action(values: Tensor, batch: torch.Size) -> Tensor:
    """Numbers float [*batch, K] of each action from numbers float [K, B] of each critic."""
    return values.T.reshape(*batch, len(values))
