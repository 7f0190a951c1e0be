"""Conditional variational autoencoder of actions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ibrl_torchrl.modules.imitation.base import StochasticPolicy
from ibrl_torchrl.modules.imitation.features import Features
from ibrl_torchrl.modules.mlp import relu_mlp


class CVAEPolicy(StochasticPolicy):
    """Policy that decodes a latent vector, a conditional variational autoencoder.

    The decoder maps features of the observation and a latent z to an action; acting draws z from
    N(0, I), or takes z = 0 under ``ExplorationType.DETERMINISTIC``, as ACT does (arXiv 2304.13705).
    The posterior q(z | s, a) is used by training alone, see
    :class:`~ibrl_torchrl.objectives.CVAELoss`.

    Args:
        features: observations as one vector, :class:`StateFeatures` or :class:`PixelFeatures`.
        action_size: number of action dimensions A.
        latent_size: size Z of the latent, default 8.
        hidden: width of each hidden layer of decoder and posterior, default three of 256.
        dropout: probability of zeroing a hidden unit in train mode, default 0.
        layer_norm: layer norm after each hidden layer's linear map, default False.

    Example:
        >>> import torch
        >>> from ibrl_torchrl.modules import Normalize, StateFeatures
        >>> policy = CVAEPolicy(StateFeatures(Normalize.identity(3)), 2, hidden=[8])
        >>> policy(torch.zeros(7, 3)).shape
        torch.Size([7, 2])
    """

    def __init__(
        self,
        features: Features,
        action_size: int,
        *,
        latent_size: int = 8,
        hidden: Sequence[int] = (256, 256, 256),
        dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__(features)
        self.latent_size = latent_size

        def mlp(inputs: int, outputs: int) -> nn.Module:
            return relu_mlp(features.size + inputs, hidden, outputs, dropout, layer_norm=layer_norm)

        self.decoder = mlp(latent_size, action_size)
        self.posterior = mlp(action_size, 2 * latent_size)

    def act(self, features: Tensor, *, sample: bool) -> Tensor:
        """Decoded action [*, A] of z drawn from N(0, I), or of z = 0."""
        latent = features.new_zeros(*features.shape[:-1], self.latent_size)
        return self.decode(features, torch.randn_like(latent) if sample else latent)

    def encode(self, features: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior of the latent.

        Args:
            features: float [*, F].
            action: float [*, A].

        Returns:
            Mean and logarithm of the variance, float [*, Z] each, the latter in [-10, 10].
        """
        mean, log_var = self.posterior(torch.cat([features, action], -1)).chunk(2, -1)
        return mean, log_var.clamp(-10, 10)

    def decode(self, features: Tensor, latent: Tensor) -> Tensor:
        """Map features [*, F] and latents [*, Z] to actions [*, A] in [-1, 1]."""
        return torch.tanh(self.decoder(torch.cat([features, latent], -1)))
