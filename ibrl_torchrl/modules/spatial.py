"""The spatial embedding of the paper's Q-network (section 4.1, Fig. 2)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibrl_torchrl.modules.critics.ensemble import EnsembleLayerNorm, EnsembleLinear

ChannelWeights = Literal["softmax", "free"]


class SpatialEmbedding(nn.Module):
    """Patch features to one vector, fused across patches channel by channel.

    Patch features [P, D] are read as D channels of P numbers. The extras (action, proprioception)
    are appended to *each* channel; a linear layer fuses them to ``size`` numbers, followed by
    layer norm and ReLU; a weighted sum over the D channels gives the embedding.

    Args:
        members: number of independent embeddings E, evaluated together.
        feature_shape: (P, D) of the patch features.
        extra: size X of what is appended; 0 for none.
        size: size H of the embedding; paper: 1024.
        weights: of the sum over channels. ``"softmax"`` (paper): a separate linear projection of
            each channel, normalised over the channels. ``"free"`` (original code): parameters,
            one a channel and output, normally distributed at the start.

    Raises:
        ValueError: ``weights`` is unknown.
    """

    def __init__(
        self,
        members: int,
        feature_shape: tuple[int, int],
        extra: int,
        size: int,
        *,
        weights: ChannelWeights = "softmax",
    ) -> None:
        super().__init__()
        patches, channels = feature_shape
        self.patches = patches
        self.projection = EnsembleLinear(members, patches + extra, size)
        self.norm = EnsembleLayerNorm(members, size)
        if weights == "softmax":
            self.weighting: nn.Module = SoftmaxWeights(members, patches, extra)
        elif weights == "free":
            self.weighting = FreeWeights(members, channels, size)
        else:
            raise ValueError(f"weights must be 'softmax' or 'free', got {weights!r}")

    def forward(self, features: Tensor, extra: Tensor, members: Tensor | None = None) -> Tensor:
        """Embed B observations with N extras each.

        Args:
            features: float [B, P, D]. Their part of the projection, by far the larger, is computed
                once for all N.
            extra: float [B, N, X].
            members: int64 [K], indices of the embeddings to evaluate; all by default.

        Returns:
            float [E, B, N, H], or [K, B, N, H].
        """
        channels = features.transpose(-1, -2)  # [B, D, P]
        hidden = appended(self.projection, channels, extra, self.patches, members)
        count, size = len(hidden), hidden.shape[-1]
        hidden = F.relu(self.norm(hidden.view(count, -1, size), members)).view(hidden.shape)
        weights = self.weighting(channels, extra, members)  # broadcasts to [K, B, N, D, H]
        return (weights * hidden).sum(-2)


class SoftmaxWeights(nn.Module):
    """One weight a channel: a softmax over the channels of a linear projection of each.

    Args:
        members: number of independent embeddings E.
        patches: P.
        extra: X.
    """

    def __init__(self, members: int, patches: int, extra: int) -> None:
        super().__init__()
        self.patches = patches
        self.projection = EnsembleLinear(members, patches + extra, 1)

    def forward(self, channels: Tensor, extra: Tensor, members: Tensor | None = None) -> Tensor:
        """Weights [K, B, N, D, 1] of channels [B, D, P] with extras [B, N, X]."""
        return appended(self.projection, channels, extra, self.patches, members).softmax(-2)


class FreeWeights(nn.Module):
    """One trained weight for each channel and output, whatever is seen.

    Args:
        members: number of independent embeddings E.
        channels: D.
        size: H.
    """

    def __init__(self, members: int, channels: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(members, 1, 1, channels, size))

    def forward(self, channels: Tensor, extra: Tensor, members: Tensor | None = None) -> Tensor:
        """Weights [K, 1, 1, D, H]."""
        return self.weight if members is None else self.weight[members]


def appended(
    layer: EnsembleLinear,
    channels: Tensor,
    extra: Tensor,
    patches: int,
    members: Tensor | None = None,
) -> Tensor:
    """Apply a linear layer to every channel with every extra appended.

    The product with the channels does not depend on the extra, so the two parts are multiplied
    apart and added; the result is that of the layer on the concatenation.

    Args:
        layer: of P + X inputs and H outputs.
        channels: float [B, D, P].
        extra: float [B, N, X].
        patches: P.
        members: int64 [K]; all by default.

    Returns:
        float [K, B, N, D, H].
    """
    weight, bias = layer.weight, layer.bias
    if members is not None:
        weight, bias = weight[members], bias[members]
    (batch, depth), rows = channels.shape[:2], extra.shape[1]
    flat = channels.reshape(1, batch * depth, patches).expand(len(weight), -1, -1)
    seen = torch.baddbmm(bias, flat, weight[:, :patches]).view(len(weight), batch, 1, depth, -1)
    flat = extra.reshape(1, batch * rows, -1).expand(len(weight), -1, -1)
    added = torch.bmm(flat, weight[:, patches:]).view(len(weight), batch, rows, 1, -1)
    return seen + added
