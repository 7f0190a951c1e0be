"""From what cameras saw to patch features."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn

from ibrl_torchrl.modules.augment import RandomShift

Fusion = Literal["concatenate", "add", "multiply"]
_FUSIONS = {
    "concatenate": lambda features: torch.cat(features, -2),
    "add": lambda features: reduce(torch.add, features),
    "multiply": lambda features: reduce(torch.mul, features),
}


class CameraEncoder(nn.Module):
    """Images of one or more cameras to one set of patch features.

    Each camera has a network of its own. Images are uint8 up to here; they are shifted randomly in
    train mode (:class:`RandomShift`, one draw an image and camera) and scaled to [-0.5, 0.5].

    Args:
        networks: one for each camera, float [B, C, H, W] to [B, P, D].
        image_shapes: one for each camera, (C, H, W).
        shift: largest random shift in pixels, default 4 (paper).
        dtype: precision of the networks' products, by autocast; features are float32 whatever it
            is. Default float32; bfloat16 pays on GPUs.
        memory_format: of images and convolutions; ``torch.channels_last`` pays for ResNets on GPUs
            and costs on CPUs.
        fusion: how the cameras' features become one: ``"concatenate"`` (default, along the
            patches), ``"add"`` or ``"multiply"``, which need equal shapes.

    Attributes:
        feature_shape: (P, D) of the result, measured.

    Raises:
        ValueError: networks and shapes differ in number, the features of the cameras cannot be
            fused, or ``fusion`` is unknown.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        image_shapes: Sequence[tuple[int, int, int]],
        *,
        shift: int = 4,
        fusion: Fusion = "concatenate",
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        super().__init__()
        if not networks or len(networks) != len(image_shapes):
            raise ValueError(
                f"{len(networks)} networks and {len(image_shapes)} image shapes: one each a camera"
            )
        if fusion not in _FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(_FUSIONS)}, got {fusion!r}")
        self.networks = nn.ModuleList(networks).to(memory_format=memory_format)
        self.dtype = dtype
        self.memory_format = memory_format
        self.shift = RandomShift(shift)
        self.fusion = fusion
        # Two images: group norm refuses to train on a single number a group.
        images = [torch.zeros(2, *shape, dtype=torch.uint8) for shape in image_shapes]
        with torch.no_grad():
            shapes = [
                tuple(self._encoded(*pair).shape[1:]) for pair in zip(networks, images, strict=True)
            ]
            if len({shape[fusion == "concatenate" :] for shape in shapes}) > 1:
                raise ValueError(f"features of shapes {shapes} cannot be fused by {fusion}")
            self.feature_shape = tuple(self(*images).shape[1:])

    def forward(self, *images: Tensor) -> Tensor:
        """Map images uint8 [*, C, H, W], one argument a camera, to float features [*, P, D]."""
        batch = images[0].shape[:-3]
        features = [
            self._encoded(network, image.reshape(-1, *image.shape[-3:]))
            for network, image in zip(self.networks, images, strict=True)
        ]
        fused = _FUSIONS[self.fusion](features)
        return fused.reshape(*batch, *fused.shape[1:])

    def _encoded(self, network: nn.Module, images: Tensor) -> Tensor:
        """One camera's features [B, P, D] of its images [B, C, H, W]."""
        if images.dtype != torch.uint8:
            raise TypeError(f"images are uint8 until they are encoded, got {images.dtype}")
        scaled = self.shift(images).float().div_(255).sub_(0.5)
        scaled = scaled.contiguous(memory_format=self.memory_format)
        lower = self.dtype != torch.float32
        with torch.autocast(images.device.type, self.dtype, enabled=lower):
            return network(scaled).float()
