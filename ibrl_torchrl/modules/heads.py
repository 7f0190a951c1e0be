"""Heads of policy networks: patch features to one vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from ibrl_torchrl.modules.spatial import ChannelWeights, SpatialEmbedding


class Head(nn.Module, ABC):
    """Base class of heads.

    Attributes:
        size: size H of the output.
    """

    size: int

    @abstractmethod
    def forward(self, features: Tensor, *proprio: Tensor) -> Tensor:
        """Map patch features, and proprioception if used, to one vector.

        Args:
            features: float [*, P, D].
            proprio: proprioception float [*, Y]; ignored by heads that do not read it.

        Returns:
            float [*, H].
        """


class FlattenHead(Head):
    """Flattened features, as in the original code's imitation policy on Meta-World.

    Args:
        feature_shape: (P, D) of the patch features; H = P * D.
    """

    def __init__(self, feature_shape: tuple[int, int]) -> None:
        super().__init__()
        self.size = feature_shape[0] * feature_shape[1]

    def forward(self, features: Tensor, *proprio: Tensor) -> Tensor:
        """Map features float [*, P, D] to [*, P * D]."""
        return features.flatten(-2)


class LinearHead(Head):
    """Linear projection of the flattened features, layer norm, dropout, ReLU.

    Args:
        feature_shape: (P, D) of the patch features.
        size: size H of the output, default 128 as in the original code ("basic": 64).
        dropout: probability of zeroing a unit in train mode, default 0.5.
    """

    def __init__(
        self, feature_shape: tuple[int, int], size: int = 128, *, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.size = size
        self.layers = nn.Sequential(
            nn.Linear(feature_shape[0] * feature_shape[1], size),
            nn.LayerNorm(size),
            nn.Dropout(dropout),
            nn.ReLU(),
        )

    def forward(self, features: Tensor, *proprio: Tensor) -> Tensor:
        """Map features float [*, P, D] to [*, H]."""
        return self.layers(features.flatten(-2))


class SpatialHead(Head):
    """Features fused across patches channel by channel, as in the Q-network, with dropout.

    Args:
        feature_shape: (P, D) of the patch features.
        size: size H of the output, default 1024.
        proprio_size: size Y of the proprioception, concatenated to each channel; default 0.
        dropout: probability of zeroing a unit in train mode, default 0.5.
        weights: weighting of the sum over channels, ``"softmax"`` (default) or ``"free"``, see
            :class:`~ibrl_torchrl.modules.spatial.SpatialEmbedding`.
    """

    def __init__(
        self,
        feature_shape: tuple[int, int],
        size: int = 1024,
        *,
        proprio_size: int = 0,
        dropout: float = 0.5,
        weights: ChannelWeights = "softmax",
    ) -> None:
        super().__init__()
        self.size = size
        self.embedding = SpatialEmbedding(1, feature_shape, proprio_size, size, weights=weights)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, *proprio: Tensor) -> Tensor:
        """Map features float [*, P, D] and proprioception float [*, Y], if used, to [*, H]."""
        batch = features.shape[:-2]
        extra = proprio[0] if proprio else features.new_empty(*batch, 0)
        flat = features.reshape(-1, *features.shape[-2:])
        embedded = self.embedding(flat, extra.reshape(len(flat), 1, -1))
        return self.dropout(embedded.reshape(*batch, self.size))


def process_proprio(network: nn.Module | None, vectors: Sequence[Tensor]) -> list[Tensor]:
    """Proprioception as a network's further layers read it: one vector, or none without a network.

    Args:
        network: processes the vector, such as its normalisation; None: none is read.
        vectors: proprioception float [*, Y], if used.

    Raises:
        ValueError: there is another number of vectors than the network reads.
    """
    expected = int(network is not None)
    if len(vectors) != expected:
        raise ValueError(
            f"got {len(vectors)} vectors of proprioception, this network reads {expected}; pass "
            "proprio=... to it, or leave the key out of in_keys"
        )
    return [] if network is None else [network(vector) for vector in vectors]
