"""Action Chunking Transformer: TorchRL's ``ACTModel`` on features of the observation."""

from __future__ import annotations

import torch
from torch import Tensor
from torchrl.modules.models import ACTModel

from ibrl_torchrl.modules.imitation.base import StochasticPolicy
from ibrl_torchrl.modules.imitation.features import Features


class ACTPolicy(StochasticPolicy):
    """Policy of action chunks by a transformer, ACT (arXiv 2304.13705).

    Its part ``model`` is TorchRL's ``ACTModel``, trained by ``ACTLoss``, see the example: a
    conditional variational autoencoder whose posterior reads the chunk and the observation, and
    whose decoder attends to two tokens, observation and latent z, with one query an action. The
    observation is one vector of features, where the original has a token for each patch of the
    images. Acting draws z from N(0, I), or takes z = 0 under ``ExplorationType.DETERMINISTIC``, as
    the original does always.

    Args:
        features: observations as one vector, :class:`StateFeatures` or :class:`PixelFeatures`.
        action_size: numbers of a flat chunk h A, ordered by step.
        chunk_size: number of actions h in a chunk, default 1.
        width: size of the tokens, even and a multiple of ``heads``; default 64.
        layers: layers of the posterior's encoder, and of the decoder; default 1.
        heads: attention heads, default 4.
        latent_size: size Z of the latent, default 8.
        dropout: dropout probability of the transformers in train mode, default 0; original: 0.1.

    Raises:
        ValueError: ``width`` is odd or no multiple of ``heads``, or ``action_size`` is no multiple
            of ``chunk_size``.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> from torchrl.objectives import ACTLoss
        >>> from ibrl_torchrl.modules import Normalize, StateFeatures
        >>> policy = ACTPolicy(StateFeatures(Normalize.identity(3)), 4 * 2, chunk_size=4, width=8)
        >>> policy(torch.zeros(7, 3)).shape
        torch.Size([7, 8])
        >>> model = TensorDictModule(
        ...     policy.model, ["observation", "action_chunk"], ["action_pred", "mu", "log_var"]
        ... )
        >>> loss = ACTLoss(model, kl_weight=10.0)
        >>> features = policy.features(torch.randn(5, 3))
        >>> batch = TensorDict(observation=features, batch_size=[5])
        >>> batch["vla_action", "chunk"] = torch.zeros(5, 4, 2)
        >>> loss(batch)["loss_act"].backward()
    """

    def __init__(
        self,
        features: Features,
        action_size: int,
        *,
        chunk_size: int = 1,
        width: int = 64,
        layers: int = 1,
        heads: int = 4,
        latent_size: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(features)
        if width % heads or width % 2:
            raise ValueError(f"width must be even and a multiple of heads={heads}, got {width}")
        if action_size % chunk_size:
            raise ValueError(
                f"action_size must be a multiple of chunk_size={chunk_size}, got {action_size}"
            )
        self.model = ACTModel(
            features.size,
            action_size // chunk_size,
            chunk_size,
            hidden_dim=width,
            nheads=heads,
            num_encoder_layers=layers,
            num_decoder_layers=layers,
            latent_dim=latent_size,
            dropout=dropout,
        )

    def act(self, features: Tensor, *, sample: bool) -> Tensor:
        """Flat chunk [*, h A] decoded from z drawn from N(0, I), or from z = 0."""
        latent = features.new_zeros(*features.shape[:-1], self.model.latent_dim)
        return self.decode(features, torch.randn_like(latent) if sample else latent)

    def decode(self, features: Tensor, latent: Tensor) -> Tensor:
        """Map features [*, F] and latents [*, Z] to flat chunks [*, h A].

        ``ACTModel`` decodes draws of its posterior and z = 0 alone.
        """
        model = self.model
        memory = torch.stack([model.obs_proj(features), model.latent_out_proj(latent)], -2)
        memory = memory.reshape(-1, *memory.shape[-2:])
        queries = model.action_queries.weight.expand(len(memory), -1, -1)
        chunks = model.action_head(model.transformer_decoder(queries, memory))
        return chunks.reshape(*features.shape[:-1], -1)
