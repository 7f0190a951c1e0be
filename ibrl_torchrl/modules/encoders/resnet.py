"""Residual networks with group norm, one channel per group (arXiv 2311.02198, appendix E)."""

from __future__ import annotations

from torch import Tensor, nn


class ResNet18(nn.Module):
    """ResNet-18 with group norm instead of batch norm, the encoder of imitation policies.

    One channel per group, so that the features of an image do not depend on the rest of the batch.
    The first convolution is that of the original code, 4 x 4 with stride 2 and without padding.
    Images of 96 pixels give 9 patches of 512 features.

    Args:
        image_size: height and width in pixels, at least 36; below, the last feature map would be a
            single pixel, which group norm maps to a constant.
        channels: image channels, 3 per stacked frame; default 3.
        blocks: residual blocks in each of the four stages, default 2.

    Raises:
        ValueError: ``image_size`` is too small.
    """

    def __init__(self, image_size: int, channels: int = 3, *, blocks: int = 2) -> None:
        super().__init__()
        if image_size < 36:
            raise ValueError(f"image size {image_size} is too small, ResNet-18 needs 36")
        widths = [64, 64, 128, 256, 512]
        self.stem = nn.Sequential(
            nn.Conv2d(channels, 64, 4, 2, bias=False), _norm(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        self.stages = nn.Sequential(
            *(
                ResidualBlock(
                    widths[stage if block == 0 else stage + 1],
                    widths[stage + 1],
                    stride=2 if stage > 0 and block == 0 else 1,
                )
                for stage in range(4)
                for block in range(blocks)
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map float images [B, C, H, W] to features [B, P, 512]."""
        return self.stages(self.stem(images)).flatten(2).transpose(1, 2)


class ResidualBlock(nn.Module):
    """Residual block of two 3 x 3 convolutions with group norm (arXiv 1512.03385).

    Args:
        in_channels: number of input channels I.
        out_channels: number of output channels O.
        stride: stride of the first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _conv3x3(in_channels, out_channels, stride),
            _norm(out_channels),
            nn.ReLU(),
            _conv3x3(out_channels, out_channels),
            _norm(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), _norm(out_channels)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map feature maps float [B, I, H, W] to [B, O, H / stride, W / stride]."""
        return (self.residual(inputs) + self.shortcut(inputs)).relu()


class ResNet96(nn.Sequential):
    """Small residual network of the original code, for RL: three pre-norm blocks without a stem.

    Images of 96 pixels give 144 patches of 256 features.

    Args:
        image_size: height and width in pixels, at least 9.
        channels: image channels, 3 per stacked frame; default 3.

    Raises:
        ValueError: ``image_size`` is too small.
    """

    def __init__(self, image_size: int, channels: int = 3) -> None:
        if image_size < 9:
            raise ValueError(f"image size {image_size} is too small, ResNet96 needs 9")
        super().__init__(
            _conv3x3(channels, 32),
            PreNormBlock(32, 64),
            PreNormBlock(64, 128),
            PreNormBlock(128, 256),
            _norm(256),
            nn.ReLU(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map float images [B, C, H, W] to features [B, P, 256]."""
        return super().forward(images).flatten(2).transpose(1, 2)


class PreNormBlock(nn.Module):
    """Pre-activation residual block with group norm and stride 2 (arXiv 1603.05027).

    Args:
        in_channels: number of input channels I.
        out_channels: number of output channels O.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _norm(in_channels),
            nn.ReLU(),
            _conv3x3(in_channels, out_channels, 2),
            _norm(out_channels),
            nn.ReLU(),
            _conv3x3(out_channels, out_channels),
        )
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, 2, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map feature maps float [B, I, H, W] to [B, O, H / 2, W / 2]."""
        return self.residual(inputs) + self.shortcut(inputs)


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels, channels)
