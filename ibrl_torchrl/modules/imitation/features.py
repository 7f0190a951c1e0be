"""Observations as one vector, the input of imitation policies' networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibrl_torchrl.modules.encoders import CameraEncoder
from ibrl_torchrl.modules.heads import Head, process_proprio
from ibrl_torchrl.modules.normalize import Normalize


class StateFeatures(nn.Module):
    """Normalised state vector; several observations are concatenated.

    Args:
        normalize: statistics of the observation, or of several observations concatenated.

    Attributes:
        size: size F of the output.

    Example:
        >>> import torch
        >>> from ibrl_torchrl.modules import Normalize
        >>> StateFeatures(Normalize.identity(5))(torch.zeros(2, 3), torch.zeros(2, 2)).shape
        torch.Size([2, 5])
    """

    def __init__(self, normalize: Normalize) -> None:
        super().__init__()
        self.normalize = normalize
        self.size = normalize.size

    def forward(self, *observations: Tensor) -> Tensor:
        """Map one or more vectors float [*, S_i] to [*, F]."""
        return self.normalize(torch.cat(observations, -1))


class PixelFeatures(nn.Module):
    """Camera images, and proprioception if used, as one vector: encoder and head.

    Args:
        encoder: maps camera images to patch features.
        head: maps patch features, and proprioception if used, to a vector.
        proprio: preprocessing of the proprioception, such as :class:`Normalize`, together with
            ``proprio_size``; None (default) if not used.
        proprio_size: size Y of the proprioception, default 0.

    Attributes:
        size: size F of the output, that of the head plus Y.
    """

    def __init__(
        self,
        encoder: CameraEncoder,
        head: Head,
        *,
        proprio: nn.Module | None = None,
        proprio_size: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.proprio = proprio
        self.size = head.size + proprio_size

    def forward(self, *observations: Tensor) -> Tensor:
        """Map observations to features.

        Args:
            observations: images uint8 [*, C, H, W] of each camera, then proprioception float
                [*, Y], if used.

        Returns:
            float [*, F].
        """
        num_cameras = len(self.encoder.networks)
        processed = process_proprio(self.proprio, observations[num_cameras:])
        hidden = self.head(self.encoder(*observations[:num_cameras]), *processed)
        return torch.cat([hidden, *processed], -1)


Features = StateFeatures | PixelFeatures
