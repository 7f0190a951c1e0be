"""What keeps a policy from learning a few demonstrations by heart: noise on its inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RandomShift(nn.Module):
    """Move each image by up to ``pad`` pixels, its border repeated (Yarats et al., DrQ).

    One draw an image, the same for all its channels; every shift of -pad to pad in both directions
    is equally likely. Like dropout it works in train mode only: what acts is in eval mode.

    Args:
        pad: largest shift in pixels; default 4 (paper). 0 leaves images as they are.

    Raises:
        ValueError: ``pad`` is negative.
    """

    def __init__(self, pad: int = 4) -> None:
        super().__init__()
        if pad < 0:
            raise ValueError(f"pad must not be negative, got {pad}")
        self.pad = pad

    def forward(self, images: Tensor) -> Tensor:
        """Shift images [B, C, H, W] of any dtype; the input is left as it is."""
        if not self.training or self.pad == 0:
            return images
        shifts = torch.randint(2 * self.pad + 1, (2, len(images)), device=images.device)
        return shifted(images, shifts, self.pad)


def shifted(images: Tensor, shifts: Tensor, pad: int) -> Tensor:
    """Cut each image out of itself padded by ``pad``.

    Args:
        images: [B, C, H, W].
        shifts: int64 [2, B], row and column in the padded image where the cut begins, 0 to 2 pad.
        pad: width of the repeated border, at least 1.

    Returns:
        [B, C, H, W]; ``shifts`` equal to ``pad`` give the images unchanged.
    """
    height, width = images.shape[-2:]
    # All cuts of all images as one view, of which one each is copied.
    windows = _padded(images, pad).unfold(-2, height, 1).unfold(-2, width, 1)  # [B, C, R, S, H, W]
    return windows[torch.arange(len(images), device=images.device), :, shifts[0], shifts[1]]


def _padded(images: Tensor, pad: int) -> Tensor:
    """Repeat the border; ``torch.nn.functional.pad`` cannot for uint8."""
    *batch, height, width = images.shape
    out = images.new_empty(*batch, height + 2 * pad, width + 2 * pad)
    out[..., pad:-pad, pad:-pad] = images
    out[..., :pad, pad:-pad] = images[..., :1, :]
    out[..., -pad:, pad:-pad] = images[..., -1:, :]
    out[..., :pad] = out[..., pad : pad + 1]
    out[..., -pad:] = out[..., -pad - 1 : -pad]
    return out


class GaussianNoise(nn.Module):
    """Add Gaussian noise in train mode, to proprioception for instance.

    Args:
        std: standard deviation, in units of the input.

    Raises:
        ValueError: ``std`` is negative.
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        if std < 0:
            raise ValueError(f"std must not be negative, got {std}")
        self.std = std

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the input, of any shape, with noise added in train mode."""
        if not self.training or self.std == 0:
            return inputs
        return inputs + self.std * torch.randn_like(inputs)
