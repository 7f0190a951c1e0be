"""Critic ensembles of patch features and an action."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibrl_torchrl.modules.critics.ensemble import EnsembleLayerNorm, EnsembleLinear, EnsembleMLP
from ibrl_torchrl.modules.initialize import orthogonal_
from ibrl_torchrl.modules.spatial import ChannelWeights, SpatialEmbedding

# An orthogonal last layer starts with values of about 1 in size, where returns lie in [0, 1] and
# mostly near 0. What is wrong at the start leaves only through the bootstrap, by a factor of
# gamma^n each time the targets have followed: thousands of updates. Near zero nothing has to leave.
HEAD_GAIN = 0.01


class SpatialCriticEnsemble(nn.Module):
    """The paper's ViT-based Q-network behind its encoder (Fig. 2), E of them.

    Action and proprioception are appended to each channel of the features, fused across patches
    (:class:`SpatialEmbedding`), and appended again before the MLP.

    Args:
        feature_shape: (P, D) of the patch features.
        action_size: number of action dimensions A.
        proprio: what is done to the proprioception first, :class:`Normalize` for instance, with
            ``proprio_size``; None (default) if not used.
        proprio_size: size Y of the proprioception, default 0.
        num_critics: E, default 2 (paper, pixels).
        embedding: size of the spatial embedding, default 1024 (paper).
        hidden: width of each hidden layer, default two of 1024.
        weights: ``"softmax"`` (paper) or ``"free"`` (original code), see
            :class:`SpatialEmbedding`.
        orthogonal: initialise the MLP orthogonally, as the original code does. Default True.
        head_gain: scale of the last layer's initial weights, see ``HEAD_GAIN``; original code: 1.

    Raises:
        ValueError: ``num_critics`` is less than one, or ``weights`` is unknown.
    """

    def __init__(
        self,
        feature_shape: tuple[int, int],
        action_size: int,
        *,
        proprio: nn.Module | None = None,
        proprio_size: int = 0,
        num_critics: int = 2,
        embedding: int = 1024,
        hidden: Sequence[int] = (1024, 1024),
        weights: ChannelWeights = "softmax",
        orthogonal: bool = True,
        head_gain: float = HEAD_GAIN,
    ) -> None:
        super().__init__()
        _check_number(num_critics)
        self.num_critics = num_critics
        self.proprio = proprio
        extra = action_size + proprio_size
        self.embedding = SpatialEmbedding(
            num_critics, feature_shape, extra, embedding, weights=weights
        )
        self.mlp = EnsembleMLP(num_critics, embedding + extra, hidden)
        if orthogonal:
            orthogonal_(self.mlp)
        self.mlp.head.weight.detach().mul_(head_gain)

    def forward(self, features: Tensor, *extras: Tensor, members: Tensor | None = None) -> Tensor:
        """Evaluate all critics, or those of ``members``.

        Args:
            features: float [*, P, D], or [*, 1, P, D] for N actions of each observation.
            extras: proprioception [*, Y] or [*, 1, Y] if it is used, then the action float
                [*, A] or [*, N, A].
            members: int64 [K], indices of the critics to evaluate; all by default.

        Returns:
            float [*, E] or [*, N, E]; K instead of E with ``members``.
        """
        batch = extras[-1].shape[:-1]
        features = features.reshape(-1, *features.shape[-2:])
        extra = _joined(self.proprio, extras, rows=len(features))
        embedded = self.embedding(features, extra, members)  # [K, B, N, H]
        return _valued(self.mlp, embedded, extra, batch, members)


class DrQCriticEnsemble(nn.Module):
    """DrQ-style critics: features compressed to a short vector, then an MLP with the action.

    Args:
        feature_shape: (P, D) of the patch features.
        action_size: number of action dimensions A.
        proprio: what is done to the proprioception first, :class:`Normalize` for instance, with
            ``proprio_size``; None (default) if not used.
        proprio_size: size Y of the proprioception, default 0.
        num_critics: E, default 2.
        embedding: size of the compressed features, default 64 (original code's "basic").
        hidden: width of each hidden layer, default two of 1024.
        orthogonal: initialise all layers orthogonally, as the original code does. Default True.
        head_gain: scale of the last layer's initial weights, see ``HEAD_GAIN``; original code: 1.

    Raises:
        ValueError: ``num_critics`` is less than one.
    """

    def __init__(
        self,
        feature_shape: tuple[int, int],
        action_size: int,
        *,
        proprio: nn.Module | None = None,
        proprio_size: int = 0,
        num_critics: int = 2,
        embedding: int = 64,
        hidden: Sequence[int] = (1024, 1024),
        orthogonal: bool = True,
        head_gain: float = HEAD_GAIN,
    ) -> None:
        super().__init__()
        _check_number(num_critics)
        self.num_critics = num_critics
        self.proprio = proprio
        self.compress = EnsembleLinear(num_critics, feature_shape[0] * feature_shape[1], embedding)
        self.norm = EnsembleLayerNorm(num_critics, embedding)
        self.mlp = EnsembleMLP(num_critics, embedding + action_size + proprio_size, hidden)
        if orthogonal:
            orthogonal_(self)
        self.mlp.head.weight.detach().mul_(head_gain)

    def forward(self, features: Tensor, *extras: Tensor, members: Tensor | None = None) -> Tensor:
        """Evaluate all critics, or those of ``members``; shapes as in
        :class:`SpatialCriticEnsemble`."""
        batch = extras[-1].shape[:-1]
        features = features.reshape(1, -1, features.shape[-2] * features.shape[-1])
        count = self.num_critics if members is None else members.numel()
        compressed = self.compress(features.expand(count, -1, -1), members)
        compressed = F.relu(self.norm(compressed, members)).unsqueeze(2)  # [K, B, 1, F]
        extra = _joined(self.proprio, extras, rows=features.shape[1])
        return _valued(self.mlp, compressed, extra, batch, members)


def _check_number(num_critics: int) -> None:
    if num_critics < 1:
        raise ValueError(f"num_critics must be at least 1, got {num_critics}")


def _joined(proprio: nn.Module | None, extras: tuple[Tensor, ...], rows: int) -> Tensor:
    """Actions [*, N, A], after proprioception if there is any, as [rows, N, X]."""
    *sensed, action = extras
    if proprio is not None:
        sensed = proprio(sensed[0]).expand(*action.shape[:-1], -1)
        action = torch.cat([sensed, action], -1)
    return action.reshape(rows, -1, action.shape[-1])


def _valued(
    mlp: EnsembleMLP,
    embedded: Tensor,
    extra: Tensor,
    batch: torch.Size,
    members: Tensor | None,
) -> Tensor:
    """Values [*, K] of embeddings [K, B, N, H] or [K, B, 1, H] and extras [B, N, X]."""
    count = len(embedded)
    inputs = torch.cat(
        [embedded.expand(-1, -1, extra.shape[1], -1), extra.expand(count, -1, -1, -1)], -1
    )
    values = mlp(inputs.flatten(1, 2), members)
    return values.squeeze(-1).T.reshape(*batch, count)
