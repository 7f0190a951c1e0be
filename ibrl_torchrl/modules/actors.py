"""Deterministic policy networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchrl.modules import MLP

from ibrl_torchrl.modules.encoders import CameraEncoder
from ibrl_torchrl.modules.heads import Head
from ibrl_torchrl.modules.initialize import orthogonal_
from ibrl_torchrl.modules.normalize import Normalize


class StateActor(nn.Module):
    """Deterministic policy network of a state vector: normalisation, MLP, tanh.

    Used for the RL actor and for imitation policies from states. The paper regularises the RL actor
    by dropout of 0.5, on during updates and off when acting (arXiv 2311.02198, section 4.1).

    Args:
        normalize: observation statistics; its ``size`` is the MLP's input size.
        action_size: number of action dimensions A.
        hidden: width of each hidden layer, default three of 1024.
        dropout: probability of zeroing a hidden unit in train mode, default 0.5.
        layer_norm: layer norm after each hidden layer, default False.

    Example:
        >>> import torch
        >>> from ibrl_torchrl.modules import Normalize
        >>> actor = StateActor(Normalize.identity(39), 4, hidden=[64, 64])
        >>> actor(torch.zeros(2, 39)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        normalize: Normalize,
        action_size: int,
        *,
        hidden: Sequence[int] = (1024, 1024, 1024),
        dropout: float = 0.5,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.mlp = MLP(
            in_features=normalize.size,
            out_features=action_size,
            num_cells=[*hidden],
            activation_class=nn.ReLU,
            norm_class=nn.LayerNorm if layer_norm else None,
            norm_kwargs=[{"normalized_shape": size} for size in hidden] if layer_norm else None,
            dropout=dropout or None,
        )

    def forward(self, state: Tensor) -> Tensor:
        """Map states float [*, S] to actions float [*, A] in [-1, 1]."""
        return torch.tanh(self.mlp(self.normalize(state)))


class FeatureActor(nn.Module):
    """Deterministic policy network of patch features: head, MLP with layer norm, tanh.

    Args:
        head: maps features [*, P, D] and proprioception [*, Y], if used, to a vector [*, H] with
            H = ``head.size``: :class:`FlattenHead`, :class:`LinearHead` or :class:`SpatialHead`.
        action_size: number of action dimensions A.
        proprio: preprocessing of the proprioception, such as :class:`Normalize`, together with
            ``proprio_size``; None (default) if not used.
        proprio_size: size Y of the proprioception, default 0.
        hidden: width of each hidden layer, default two of 1024.
        dropout: probability of zeroing a hidden unit in train mode, default 0.5
            (arXiv 2311.02198, section 4.1).
        orthogonal: orthogonal initialisation of head and MLP, as in the original code. Default
            True.

    Example:
        >>> import torch
        >>> from ibrl_torchrl.modules import LinearHead
        >>> actor = FeatureActor(LinearHead((9, 16), size=32), 4, hidden=[64])
        >>> actor(torch.zeros(2, 9, 16)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        head: Head,
        action_size: int,
        *,
        proprio: nn.Module | None = None,
        proprio_size: int = 0,
        hidden: Sequence[int] = (1024, 1024),
        dropout: float = 0.5,
        orthogonal: bool = True,
    ) -> None:
        super().__init__()
        self.head = head
        self.proprio = proprio
        self.mlp = MLP(
            in_features=head.size + proprio_size,
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
        """Map features to actions.

        Args:
            features: float [*, P, D].
            proprio: proprioception float [*, Y], if used.

        Returns:
            float [*, A] in [-1, 1].
        """
        processed = [] if self.proprio is None else [self.proprio(vector) for vector in proprio]
        hidden = self.head(features, *processed)
        return torch.tanh(self.mlp(torch.cat([hidden, *processed], -1)))


class PixelPolicy(nn.Module):
    """Policy network of camera images: encoder and actor.

    Used for imitation policies from pixels, which share no encoder with the RL agent
    (arXiv 2311.02198, appendix E).

    Args:
        encoder: maps camera images to patch features.
        actor: maps features, and proprioception if used, to an action.
    """

    def __init__(self, encoder: CameraEncoder, actor: FeatureActor) -> None:
        super().__init__()
        self.encoder = encoder
        self.actor = actor

    def forward(self, *observations: Tensor) -> Tensor:
        """Map observations to actions.

        Args:
            observations: images uint8 [*, C, H, W] of each camera, then proprioception float
                [*, Y], if used.

        Returns:
            float [*, A] in [-1, 1].
        """
        num_cameras = len(self.encoder.networks)
        features = self.encoder(*observations[:num_cameras])
        return self.actor(features, *observations[num_cameras:])
