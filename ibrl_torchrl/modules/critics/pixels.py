"""Critic ensembles of patch features and actions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ibrl_torchrl.modules.critics.ensemble import EnsembleLayerNorm, EnsembleLinear, EnsembleMLP
from ibrl_torchrl.modules.critics.network import CriticNetwork
from ibrl_torchrl.modules.critics.outputs import CriticOutput, ScalarOutput
from ibrl_torchrl.modules.heads import process_proprio
from ibrl_torchrl.modules.initialize import orthogonal_
from ibrl_torchrl.modules.spatial import ChannelWeights, SpatialEmbedding

# With orthogonal initialisation of the last layer, initial values have a magnitude of about 1, but
# returns lie in [0, 1] and mostly near 0. This initial error decays only through bootstrapping, by
# a factor of gamma^n per update of the targets, over thousands of updates. A small gain avoids it.
HEAD_GAIN = 0.01


class SpatialCriticEnsemble(CriticNetwork):
    """Ensemble of the paper's Q-networks of ViT features (arXiv 2311.02198, Fig. 2).

    Action and proprioception are concatenated to each channel of the features, embedded across
    patches (:class:`~ibrl_torchrl.modules.spatial.SpatialEmbedding`), and concatenated again to the
    input of the MLP.

    Args:
        feature_shape: (P, D) of the patch features.
        action_size: number of action dimensions A.
        proprio: preprocessing of the proprioception, such as :class:`Normalize`, together with
            ``proprio_size``; None (default) if not used.
        proprio_size: size Y of the proprioception, default 0.
        num_critics: number of critics E, default 2 (paper, from pixels).
        embedding: size H of the spatial embedding, default 1024 (paper).
        hidden: width of each hidden layer, default two of 1024.
        weights: ``"softmax"`` (default, paper) or ``"free"`` (original code), see
            :class:`~ibrl_torchrl.modules.spatial.SpatialEmbedding`.
        orthogonal: orthogonal initialisation of the MLP, as in the original code. Default True.
        head_gain: factor of the last layer's initial weights, default 0.01; original code: 1.
        output: :class:`~ibrl_torchrl.modules.HLGauss` for histograms of values; None (default):
            values.

    Raises:
        ValueError: ``num_critics`` is less than 1, or ``weights`` is unknown.
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
        output: CriticOutput | None = None,
    ) -> None:
        super().__init__()
        _check_num_critics(num_critics)
        self.num_critics = num_critics
        self.output = output or ScalarOutput()
        self.proprio = proprio
        extra = action_size + proprio_size
        self.embedding = SpatialEmbedding(
            num_critics, feature_shape, extra, embedding, weights=weights
        )
        self.mlp = EnsembleMLP(num_critics, embedding + extra, hidden, self.output.size)
        if orthogonal:
            orthogonal_(self.mlp)
        self.mlp.head.weight.detach().mul_(head_gain)
        self.output.initialize_(self.mlp.head.bias)

    def outputs(self, *inputs: Tensor, members: Tensor | None = None) -> Tensor:
        """Outputs of all critics, or those of ``members``.

        Args:
            inputs: features float [*, P, D], or [*, 1, P, D] for N actions of each observation;
                proprioception float [*, Y] or [*, 1, Y], if used; actions float [*, A] or
                [*, N, A].
            members: int64 [K], indices of the critics to evaluate; None (default): all.

        Returns:
            float [E, B, V], K instead of E with ``members``; B are the rows of [*] or [*, N].
        """
        features, *extras = inputs
        features = features.reshape(-1, *features.shape[-2:])
        extra = _concatenate_extras(self.proprio, extras, rows=len(features))
        hidden = self.embedding(features, extra, members)  # [K, B, N, H]
        return _evaluate_mlp(self.mlp, hidden, extra, members)


class DrQCriticEnsemble(CriticNetwork):
    """Ensemble of DrQ's Q-networks: linear bottleneck of the features, then an MLP.

    The bottleneck is a linear layer, layer norm and ReLU. Proprioception and action are
    concatenated to its output.

    Args:
        feature_shape: (P, D) of the patch features.
        action_size: number of action dimensions A.
        proprio: preprocessing of the proprioception, such as :class:`Normalize`, together with
            ``proprio_size``; None (default) if not used.
        proprio_size: size Y of the proprioception, default 0.
        num_critics: number of critics E, default 2.
        embedding: size H of the bottleneck, default 64 (original code, "basic").
        hidden: width of each hidden layer, default two of 1024.
        orthogonal: orthogonal initialisation of all layers, as in the original code. Default True.
        head_gain: factor of the last layer's initial weights, default 0.01; original code: 1.
        output: :class:`~ibrl_torchrl.modules.HLGauss` for histograms of values; None (default):
            values.

    Raises:
        ValueError: ``num_critics`` is less than 1.
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
        output: CriticOutput | None = None,
    ) -> None:
        super().__init__()
        _check_num_critics(num_critics)
        self.num_critics = num_critics
        self.output = output or ScalarOutput()
        self.proprio = proprio
        self.bottleneck = EnsembleLinear(
            num_critics, feature_shape[0] * feature_shape[1], embedding
        )
        self.norm = EnsembleLayerNorm(num_critics, embedding)
        self.mlp = EnsembleMLP(
            num_critics, embedding + action_size + proprio_size, hidden, self.output.size
        )
        if orthogonal:
            orthogonal_(self)
        self.mlp.head.weight.detach().mul_(head_gain)
        self.output.initialize_(self.mlp.head.bias)

    def outputs(self, *inputs: Tensor, members: Tensor | None = None) -> Tensor:
        """Outputs of all critics, or those of ``members``.

        Args:
            inputs: features float [*, P, D], or [*, 1, P, D] for N actions of each observation;
                proprioception float [*, Y] or [*, 1, Y], if used; actions float [*, A] or
                [*, N, A].
            members: int64 [K], indices of the critics to evaluate; None (default): all.

        Returns:
            float [E, B, V], K instead of E with ``members``; B are the rows of [*] or [*, N].
        """
        features, *extras = inputs
        features = features.reshape(1, -1, features.shape[-2] * features.shape[-1])
        count = self.num_critics if members is None else members.numel()
        hidden = self.bottleneck(features.expand(count, -1, -1), members)
        hidden = F.relu(self.norm(hidden, members)).unsqueeze(2)  # [K, B, 1, H]
        extra = _concatenate_extras(self.proprio, extras, rows=features.shape[1])
        return _evaluate_mlp(self.mlp, hidden, extra, members)


def _check_num_critics(num_critics: int) -> None:
    if num_critics < 1:
        raise ValueError(f"num_critics must be at least 1, got {num_critics}")


def _concatenate_extras(proprio: nn.Module | None, extras: Sequence[Tensor], rows: int) -> Tensor:
    """Proprioception, if used, and actions as one extra input [rows, N, X]."""
    *vectors, extra = extras
    for processed in process_proprio(proprio, vectors):
        extra = torch.cat([processed.expand(*extra.shape[:-1], -1), extra], -1)
    return extra.reshape(rows, -1, extra.shape[-1])


def _evaluate_mlp(
    mlp: EnsembleMLP, hidden: Tensor, extra: Tensor, members: Tensor | None
) -> Tensor:
    """Outputs [K, B N, V] of hidden units [K, B, N or 1, H] and extra inputs [B, N, X]."""
    count = len(hidden)
    inputs = torch.cat(
        [hidden.expand(-1, -1, extra.shape[1], -1), extra.expand(count, -1, -1, -1)], -1
    )
    return mlp(inputs.flatten(1, 2), members)
