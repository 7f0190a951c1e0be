"""Deterministic policies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchrl.modules import MLP

from ibrl_torchrl.modules.encoders import CameraEncoder
from ibrl_torchrl.modules.initialize import orthogonal_
from ibrl_torchrl.modules.normalize import Normalize


class StateActor(nn.Module):
    """A deterministic policy of a state vector: standardise, MLP, tanh.

    The RL actor and the imitation policy from states are both of this class. Dropout in the actor
    is one of the paper's ingredients (section 4.1: 0.5, on during updates, off when acting).

    Args:
        standardize: observation statistics; gives the state size S.
        action_size: number of action dimensions A.
        hidden: width of each hidden layer, default three of 1024.
        dropout: probability of zeroing a hidden unit in train mode, default 0.5.
        layer_norm: normalise after each hidden layer, default False.
    """

    def __init__(
        self,
        standardize: Normalize,
        action_size: int,
        *,
        hidden: Sequence[int] = (1024, 1024, 1024),
        dropout: float = 0.5,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.standardize = standardize
        self.mlp = MLP(
            in_features=standardize.size,
            out_features=action_size,
            num_cells=[*hidden],
            activation_class=nn.ReLU,
            norm_class=nn.LayerNorm if layer_norm else None,
            norm_kwargs=[{"normalized_shape": size} for size in hidden] if layer_norm else None,
            dropout=dropout or None,
        )

    def forward(self, state: Tensor) -> Tensor:
        """Map a state [*, S] to an action [*, A] in [-1, 1]."""
        return torch.tanh(self.mlp(self.standardize(state)))


class FeatureActor(nn.Module):
    """A deterministic policy of patch features: embedding, MLP with layer norm, tanh.

    Args:
        embedding: features [*, P, D] and proprioception [*, Y], if used, to a vector of its
            ``size``: :class:`FlattenHead`, :class:`LinearHead` or :class:`SpatialHead`.
        action_size: number of action dimensions A.
        proprio: what is done to the proprioception first, :class:`Normalize` for instance, with
            ``proprio_size``; None (default) if not used.
        proprio_size: size Y of the proprioception, default 0.
        hidden: width of each hidden layer, default two of 1024.
        dropout: probability of zeroing a hidden unit in train mode, default 0.5 (paper).
        orthogonal: initialise embedding and MLP orthogonally, as the original code does. Default
            True.
    """

    def __init__(
        self,
        embedding: nn.Module,
        action_size: int,
        *,
        proprio: nn.Module | None = None,
        proprio_size: int = 0,
        hidden: Sequence[int] = (1024, 1024),
        dropout: float = 0.5,
        orthogonal: bool = True,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.proprio = proprio
        self.mlp = MLP(
            in_features=embedding.size + proprio_size,
            out_features=action_size,
            num_cells=[*hidden],
            activation_class=nn.ReLU,
            norm_class=nn.LayerNorm,
            norm_kwargs=[{"normalized_shape": size} for size in hidden],
            dropout=dropout or None,
        )
        if orthogonal:
            orthogonal_(self)

    def forward(self, features: Tensor, *proprio: Tensor) -> Tensor:
        """Map features [*, P, D], and proprioception [*, Y] if used, to an action [*, A]."""
        sensed = [self.proprio(part) for part in proprio]
        embedded = self.embedding(features, *sensed)
        return torch.tanh(self.mlp(torch.cat([embedded, *sensed], -1)))


class PixelPolicy(nn.Module):
    """A policy with an encoder of its own, such as the imitation policy (paper, appendix E).

    Args:
        encoder: camera images to patch features.
        actor: features, and proprioception if used, to an action.
    """

    def __init__(self, encoder: CameraEncoder, actor: FeatureActor) -> None:
        super().__init__()
        self.encoder = encoder
        self.actor = actor

    def forward(self, *observations: Tensor) -> Tensor:
        """Map one image uint8 [*, C, H, W] a camera, then proprioception, to an action [*, A]."""
        cameras = len(self.encoder.networks)
        features = self.encoder(*observations[:cameras])
        return self.actor(features, *observations[cameras:])
