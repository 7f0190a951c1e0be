"""Policy networks that draw their actions."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torchrl.envs.utils import ExplorationType, exploration_type


class StochasticPolicy(nn.Module, ABC):
    """Base class of policy networks that represent a distribution of actions.

    Under ``ExplorationType.RANDOM``, and without a context, the action is a sample; under
    ``DETERMINISTIC`` and other types it is one representative action, which draws nothing. Actions
    are clipped to [-1, 1]. A subclass implements ``act``.
    """

    @abstractmethod
    def act(self, *observations: Tensor, sample: bool) -> Tensor:
        """Map observations to actions, before clipping.

        Args:
            observations: see ``forward``.
            sample: draw; else return the representative action.

        Returns:
            float [*, A].
        """

    def forward(self, *observations: Tensor) -> Tensor:
        """Map observations to actions.

        Args:
            observations: states float [*, S_i]; or images uint8 [*, C, H, W] of each camera, then
                proprioception float [*, Y], if used.

        Returns:
            float [*, A] in [-1, 1].
        """
        sample = exploration_type() in (None, ExplorationType.RANDOM)
        return self.act(*observations, sample=sample).clamp(-1, 1)


def is_stochastic(policy: nn.Module) -> bool:
    """Whether a policy, such as a frozen one, contains a :class:`StochasticPolicy`."""
    return any(isinstance(module, StochasticPolicy) for module in policy.modules())
