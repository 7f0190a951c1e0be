"""Policy networks that draw their actions."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torchrl.envs.utils import ExplorationType, exploration_type

from ibrl_torchrl.modules.imitation.features import Features


class StochasticPolicy(nn.Module, ABC):
    """Base class of policy networks that represent a distribution of actions.

    Under ``ExplorationType.RANDOM``, and without a context, the action is a sample; under
    ``DETERMINISTIC`` and other types it is one representative action, which draws nothing. Actions
    are clipped to [-1, 1]. A subclass implements ``act``.

    Args:
        features: observations as one vector.
    """

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.features = features

    @abstractmethod
    def act(self, features: Tensor, *, sample: bool) -> Tensor:
        """Map features to actions, before clipping.

        Args:
            features: float [*, F].
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
        return self.act(self.features(*observations), sample=self.draws()).clamp(-1, 1)

    @staticmethod
    def draws() -> bool:
        """Whether the present context asks for a sample."""
        return exploration_type() in (None, ExplorationType.RANDOM)

    def candidates(self, *observations: Tensor, number: int) -> Tensor:
        """Draw several actions; images are encoded once for all of them.

        Args:
            observations: see ``forward``.
            number: number of actions N.

        Returns:
            float [*, N, A] in [-1, 1].
        """
        features = self.features(*observations).unsqueeze(-2)
        features = features.expand(*features.shape[:-2], number, features.shape[-1])
        return self.act(features, sample=True).clamp(-1, 1)


def is_stochastic(policy: nn.Module) -> bool:
    """Whether a policy, such as a frozen one, contains a :class:`StochasticPolicy`."""
    return any(isinstance(module, StochasticPolicy) for module in policy.modules())
