"""Data augmentation: random image shifts and Gaussian noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RandomShift(nn.Module):
    """Random shift augmentation of DrQ: replicate padding and a random crop (arXiv 2004.13649).

    One draw per image, shared by its channels, uniform over shifts of -pad to pad pixels in both
    directions. Active in train mode only, like dropout.

    Args:
        pad: largest shift in pixels, default 4 (arXiv 2311.02198). 0 disables the augmentation.

    Raises:
        ValueError: ``pad`` is negative.
    """

    def __init__(self, pad: int = 4) -> None:
        super().__init__()
        if pad < 0:
            raise ValueError(f"pad must not be negative, got {pad}")
        self.pad = pad

    def forward(self, images: Tensor) -> Tensor:
        """Shift images [B, C, H, W] of any dtype, out of place."""
        if not self.training or self.pad == 0:
            return images
        shifts = torch.randint(2 * self.pad + 1, (2, len(images)), device=images.device)
        return shift_images(images, shifts, self.pad)


def shift_images(images: Tensor, shifts: Tensor, pad: int) -> Tensor:
    """Crop each image from its replicate-padded copy.

    Args:
        images: any dtype [B, C, H, W].
        shifts: int64 [2, B], top row and left column of the crop in the padded image, 0 to 2 pad;
            ``pad`` is no shift.
        pad: width of the replicated border in pixels, at least 1.

    Returns:
        Crops of the same dtype [B, C, H, W].

    Example:
        >>> import torch
        >>> image = torch.tensor([[[[1, 2, 3]]]])
        >>> shift_images(image, torch.tensor([[1], [0]]), pad=1)
        tensor([[[[1, 1, 2]]]])
    """
    height, width = images.shape[-2:]
    if torch.compiler.is_compiling():
        return _gather_shifted(images, shifts - pad)
    # All crops of all images as one view, from which indexing copies one per image.
    windows = (
        _replicate_pad(images, pad).unfold(-2, height, 1).unfold(-2, width, 1)
    )  # [B, C, R, S, H, W]
    return windows[torch.arange(len(images), device=images.device), :, shifts[0], shifts[1]]


def _gather_shifted(images: Tensor, offsets: Tensor) -> Tensor:
    """Crops by one gather of pixels, faster than windows of a padded copy in Inductor alone.

    Args:
        images: any dtype [B, C, H, W].
        offsets: int64 [2, B], rows and columns from a pixel to that which it is taken from.
    """
    num, channels, height, width = images.shape
    device = images.device
    row, column = offsets[:, :, None]
    rows = (torch.arange(height, device=device) + row).clamp(0, height - 1)
    columns = (torch.arange(width, device=device) + column).clamp(0, width - 1)
    return images[
        torch.arange(num, device=device)[:, None, None, None],
        torch.arange(channels, device=device)[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def _replicate_pad(images: Tensor, pad: int) -> Tensor:
    """Replicate padding of any dtype; ``torch.nn.functional.pad`` does not support uint8."""
    *batch, height, width = images.shape
    out = images.new_empty(*batch, height + 2 * pad, width + 2 * pad)
    out[..., pad:-pad, pad:-pad] = images
    out[..., :pad, pad:-pad] = images[..., :1, :]
    out[..., -pad:, pad:-pad] = images[..., -1:, :]
    out[..., :pad] = out[..., pad : pad + 1]
    out[..., -pad:] = out[..., -pad - 1 : -pad]
    return out


class GaussianNoise(nn.Module):
    """Additive Gaussian noise in train mode, for instance on proprioception.

    Args:
        std: standard deviation, in units of the input; 0 disables the noise.

    Raises:
        ValueError: ``std`` is negative.
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        if std < 0:
            raise ValueError(f"std must not be negative, got {std}")
        self.std = std

    def forward(self, inputs: Tensor) -> Tensor:
        """Add noise to an input float [*], in train mode."""
        if not self.training or self.std == 0:
            return inputs
        return inputs + self.std * torch.randn_like(inputs)
