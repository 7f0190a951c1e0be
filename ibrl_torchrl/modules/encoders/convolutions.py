"""Convolutional encoder of DrQ."""

from __future__ import annotations

from torch import Tensor, nn

from ibrl_torchrl.modules.initialize import orthogonal_


class DrQConvolutions(nn.Sequential):
    """Encoder of DrQ-v2 (arXiv 2107.09645): four 3 x 3 convolutions of 32 channels.

    The first has stride 2; orthogonal initialisation. Encoder of "IBRL Basic" in arXiv 2311.02198.

    Args:
        image_size: height and width in pixels, at least 15.
        channels: image channels, 3 per stacked frame; default 3.

    Raises:
        ValueError: ``image_size`` is too small.
    """

    def __init__(self, image_size: int, channels: int = 3) -> None:
        if image_size < 15:
            raise ValueError(f"image size {image_size} is too small, DrQConvolutions needs 15")
        layers: list[nn.Module] = []
        for i in range(4):
            layers += [nn.Conv2d(32 if i else channels, 32, 3, 1 if i else 2), nn.ReLU()]
        super().__init__(*layers)
        orthogonal_(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map float images [B, C, H, W] to features [B, P, 32]."""
        return super().forward(images).flatten(2).transpose(1, 2)
