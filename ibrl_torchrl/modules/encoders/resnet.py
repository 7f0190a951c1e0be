"""Residual networks with group norm of one channel a group (paper, appendix E)."""

from __future__ import annotations

from torch import Tensor, nn


class ResNet18(nn.Module):
    """The imitation policy's encoder: ResNet-18 with GroupNorm instead of BatchNorm.

    As many groups as channels, so that it works for any batch and with averaged targets. The first
    convolution is the original code's, 4 x 4 of stride 2 without padding. An image of 96 pixels
    gives 9 patches of 512.

    Args:
        image_size: height and width in pixels, at least 36: a group norm of single pixels would
            leave nothing.
        channels: of an image, 3 a frame.
        blocks: residual blocks in each of the four stages, default 2; 1 is half as deep.

    Raises:
        ValueError: the image is too small.
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
    """Two 3 x 3 convolutions beside a short cut; norm and ReLU after each.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        stride: of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            _conv3(inputs, outputs, stride),
            _norm(outputs),
            nn.ReLU(),
            _conv3(outputs, outputs),
            _norm(outputs),
        )
        self.short_cut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.short_cut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), _norm(outputs)
            )

    def forward(self, maps: Tensor) -> Tensor:
        """Map [B, I, H, W] to [B, O, H / stride, W / stride]."""
        return (self.path(maps) + self.short_cut(maps)).relu()


class ResNet96(nn.Sequential):
    """The original code's lighter residual network for RL: three pre-norm blocks, no stem.

    An image of 96 pixels gives 144 patches of 256.

    Args:
        image_size: height and width in pixels, at least 9.
        channels: of an image, 3 a frame.

    Raises:
        ValueError: the image is too small.
    """

    def __init__(self, image_size: int, channels: int = 3) -> None:
        if image_size < 9:
            raise ValueError(f"image size {image_size} is too small, ResNet96 needs 9")
        super().__init__(
            _conv3(channels, 32),
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
    """Norm, ReLU and a 3 x 3 convolution, twice, beside a 1 x 1 short cut; halves the size.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            _norm(inputs),
            nn.ReLU(),
            _conv3(inputs, outputs, 2),
            _norm(outputs),
            nn.ReLU(),
            _conv3(outputs, outputs),
        )
        self.short_cut = nn.Conv2d(inputs, outputs, 1, 2, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Map [B, I, H, W] to [B, O, H / 2, W / 2]."""
        return self.path(maps) + self.short_cut(maps)


def _conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels, channels)
