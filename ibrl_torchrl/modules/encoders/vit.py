"""Vision transformer, the RL encoder of arXiv 2311.02198 (section 4.1, Table 2)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

PatchEmbedding = Literal["patches", "convolutions"]


class ViT(nn.Module):
    """Small vision transformer without a class token (arXiv 2010.11929).

    Patch embedding, learned position embedding, pre-norm transformer layers, layer norm.

    Args:
        image_size: height and width in pixels.
        channels: image channels, 3 per stacked frame; default 3.
        patch: patch size in pixels, at least 2; default 8 (paper).
        depth: number of transformer layers, default 3 (paper).
        heads: number of attention heads, default 4 (paper).
        dim: size D of a patch feature, default 128 (paper).
        embedding: patch embedding. ``"patches"`` (default, paper): a linear map of each patch.
            ``"convolutions"`` (configurations of the original code): two convolutions, ``patch`` x
            ``patch`` with stride ``patch // 2`` and 3 x 3 with stride 2.

    Raises:
        ValueError: ``image_size`` is not a multiple of ``patch`` or too small, ``patch`` is less
            than 2, ``heads`` does not divide ``dim``, or ``embedding`` is unknown.

    Example:
        >>> import torch
        >>> ViT(96)(torch.zeros(2, 3, 96, 96)).shape
        torch.Size([2, 144, 128])
    """

    def __init__(
        self,
        image_size: int,
        channels: int = 3,
        *,
        patch: int = 8,
        depth: int = 3,
        heads: int = 4,
        dim: int = 128,
        embedding: PatchEmbedding = "patches",
    ) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"heads={heads} must divide dim={dim}")
        if patch < 2:
            raise ValueError(f"patch must be at least 2, got {patch}")
        self.embed = _embedding(embedding, image_size, channels, patch, dim)
        with torch.no_grad():
            patches = self.embed(torch.zeros(1, channels, image_size, image_size))[0, 0].numel()
        self.position = nn.Parameter(torch.zeros(1, patches, dim))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim,
                heads,
                4 * dim,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        nn.init.trunc_normal_(self.position, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.MultiheadAttention):
                nn.init.trunc_normal_(module.in_proj_weight, std=0.02)
                nn.init.zeros_(module.in_proj_bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map float images [B, C, H, W] to features [B, P, D]."""
        tokens = self.embed(images).flatten(2).transpose(1, 2) + self.position
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens)


def _embedding(
    kind: PatchEmbedding, image_size: int, channels: int, patch: int, dim: int
) -> nn.Module:
    if kind == "patches":
        if image_size % patch:
            raise ValueError(f"image size {image_size} is not a multiple of the patch {patch}")
        return nn.Conv2d(channels, dim, patch, patch)
    if kind == "convolutions":
        stride = patch // 2
        if (image_size - patch) // stride + 1 < 3:
            raise ValueError(f"image size {image_size} is too small for patches of {patch}")
        return nn.Sequential(
            nn.Conv2d(channels, dim, patch, stride), nn.ReLU(), nn.Conv2d(dim, dim, 3, 2)
        )
    raise ValueError(f"embedding must be 'patches' or 'convolutions', got {kind!r}")
