"""Spatial embedding of the paper's Q-network (arXiv 2311.02198, section 4.1 and Fig. 2)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibrl_torchrl.modules.critics.ensemble import EnsembleLayerNorm, EnsembleLinear

ChannelWeights = Literal["softmax", "free"]


class SpatialEmbedding(nn.Module):
    """Ensemble of spatial embeddings: patch features to one vector, per channel across patches.

    Patch features [P, D] are D channels of P entries. An extra input (action, proprioception) is
    concatenated to *each* channel and a linear layer maps it to ``size`` units, followed by layer
    norm and ReLU. The embedding is a weighted sum over the D channels.

    Args:
        members: number of independent embeddings E.
        feature_shape: (P, D) of the patch features.
        extra: size X of the extra input; 0 for none.
        size: size H of the embedding; paper: 1024.
        weights: weighting of the sum over channels. ``"softmax"`` (default, paper): softmax over
            the channels of a second linear layer. ``"free"`` (original code): trained parameters
            [D, H], initialised from a standard normal distribution.

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
        """Embed B observations with N extra inputs each.

        Args:
            features: float [B, P, D]. Their part of the projection, the larger one, is computed
                once for all N.
            extra: float [B, N, X].
            members: int64 [K], indices of the embeddings to evaluate; None (default): all.

        Returns:
            float [E, B, N, H], or [K, B, N, H].
        """
        channels = features.transpose(-1, -2)  # [B, D, P]
        hidden = project_channels(self.projection, channels, extra, self.patches, members)
        count, size = len(hidden), hidden.shape[-1]
        hidden = F.relu(self.norm(hidden.view(count, -1, size), members)).view(hidden.shape)
        weights = self.weighting(channels, extra, members)  # broadcasts to [K, B, N, D, H]
        return (weights * hidden).sum(-2)


class SoftmaxWeights(nn.Module):
    """Channel weights by a softmax over linear projections of the channels.

    Args:
        members: number of independent embeddings E.
        patches: number of patches P.
        extra: size X of the extra input.
    """

    def __init__(self, members: int, patches: int, extra: int) -> None:
        super().__init__()
        self.patches = patches
        self.projection = EnsembleLinear(members, patches + extra, 1)

    def forward(self, channels: Tensor, extra: Tensor, members: Tensor | None = None) -> Tensor:
        """Weights [K, B, N, D, 1] of channels [B, D, P] with extra inputs [B, N, X]."""
        return project_channels(self.projection, channels, extra, self.patches, members).softmax(-2)


class FreeWeights(nn.Module):
    """Trained weights per channel and output, independent of the input.

    Args:
        members: number of independent embeddings E.
        channels: number of channels D.
        size: size H of the embedding.
    """

    def __init__(self, members: int, channels: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(members, 1, 1, channels, size))

    def forward(self, channels: Tensor, extra: Tensor, members: Tensor | None = None) -> Tensor:
        """Weights [K, 1, 1, D, H], the same for every input."""
        return self.weight if members is None else self.weight[members]


def project_channels(
    layer: EnsembleLinear,
    channels: Tensor,
    extra: Tensor,
    patches: int,
    members: Tensor | None = None,
) -> Tensor:
    """Linear layer of the concatenation of every channel and every extra input.

    The products with channels and extra inputs are computed separately and added, which equals the
    layer on the concatenation without repeating the channels' product N times.

    Args:
        layer: P + X inputs, H outputs.
        channels: float [B, D, P].
        extra: float [B, N, X].
        patches: number of patches P.
        members: int64 [K], indices of the members to evaluate; None (default): all.

    Returns:
        float [K, B, N, D, H].
    """
    weight: Tensor = layer.weight
    bias: Tensor = layer.bias
    if members is not None:
        weight, bias = weight[members], bias[members]
    count, (batch, depth), num_extra = len(weight), channels.shape[:2], extra.shape[1]
    rows = channels.reshape(1, batch * depth, patches).expand(count, -1, -1)
    of_channels = torch.baddbmm(bias, rows, weight[:, :patches]).view(count, batch, 1, depth, -1)
    rows = extra.reshape(1, batch * num_extra, -1).expand(count, -1, -1)
    of_extra = torch.bmm(rows, weight[:, patches:]).view(count, batch, num_extra, 1, -1)
    return of_channels + of_extra
