"""Encoder of the images of one or more cameras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn

from ibrl_torchrl.modules.augment import RandomShift

Fusion = Literal["concatenate", "add", "multiply"]
_FUSIONS: dict[str, Callable[[list[Tensor]], Tensor]] = {
    "concatenate": lambda features: torch.cat(features, -2),
    "add": lambda features: reduce(torch.add, features),
    "multiply": lambda features: reduce(torch.mul, features),
}


class CameraEncoder(nn.Module):
    """Encoder of the images of one or more cameras, one network per camera.

    Images are uint8. They are augmented in train mode by
    :class:`~ibrl_torchrl.modules.RandomShift`, one draw per image and camera, and scaled to
    [-0.5, 0.5].

    Args:
        networks: one per camera, each maps float [B, C, H, W] to [B, P, D].
        image_shapes: one per camera, (C, H, W).
        shift: largest random shift in pixels, default 4 (arXiv 2311.02198).
        dtype: autocast precision of the networks, default float32; bfloat16 is faster on GPUs.
            Features are float32 in either case.
        memory_format: memory format of images and weights, default contiguous;
            ``torch.channels_last`` is faster for ResNets on GPUs and slower on CPUs.
        fusion: how the features of the cameras are combined: ``"concatenate"`` (default) along the
            patches, ``"add"`` or ``"multiply"``, which need equal shapes.

    Attributes:
        feature_shape: (P, D) of the features, measured by a forward pass.

    Raises:
        ValueError: the numbers of networks and shapes differ or are 0, the features of the cameras
            cannot be fused, or ``fusion`` is unknown.

    Example:
        >>> import torch
        >>> from ibrl_torchrl.modules import ViT
        >>> encoder = CameraEncoder([ViT(32, depth=1, dim=16)], [(3, 32, 32)])
        >>> encoder(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape
        torch.Size([2, 16, 16])
    """

    feature_shape: tuple[int, int]

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
                f"{len(networks)} networks and {len(image_shapes)} image shapes: one per camera"
            )
        if fusion not in _FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(_FUSIONS)}, got {fusion!r}")
        self.networks = nn.ModuleList(networks)
        self.networks.to(memory_format=memory_format)  # type: ignore[call-overload]  # not in stubs
        self.dtype = dtype
        self.memory_format = memory_format
        self.shift = RandomShift(shift)
        self.fusion = fusion
        # Two images: group norm in train mode raises on a single value per group.
        images = [torch.zeros(2, *shape, dtype=torch.uint8) for shape in image_shapes]
        with torch.no_grad():
            shapes = [
                tuple(self._encode(*pair).shape[1:]) for pair in zip(networks, images, strict=True)
            ]
            if len({shape[fusion == "concatenate" :] for shape in shapes}) > 1:
                raise ValueError(f"features of shapes {shapes} cannot be fused by {fusion}")
            patches, dim = self(*images).shape[1:]
            self.feature_shape = (patches, dim)

    def forward(self, *images: Tensor) -> Tensor:
        """Encode images.

        Args:
            images: uint8 [*, C, H, W] of each camera.

        Returns:
            Features float32 [*, P, D].

        Raises:
            TypeError: images are not uint8.
        """
        batch = images[0].shape[:-3]
        features = [
            self._encode(network, image.reshape(-1, *image.shape[-3:]))
            for network, image in zip(self.networks, images, strict=True)
        ]
        fused = _FUSIONS[self.fusion](features)
        return fused.reshape(*batch, *fused.shape[1:])

    def _encode(self, network: nn.Module, images: Tensor) -> Tensor:
        """Features float32 [B, P, D] of one camera's images uint8 [B, C, H, W]."""
        if images.dtype != torch.uint8:
            raise TypeError(f"images must be uint8, got {images.dtype}")
        scaled = self.shift(images).float().div_(255).sub_(0.5)
        scaled = scaled.contiguous(memory_format=self.memory_format)
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return network(scaled).float()
