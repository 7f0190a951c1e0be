"""Settings of networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ibrl_torchrl.config.checks import _check, _check_choice


@dataclass
class EncoderConfig:
    network: str
    settings: dict[str, Any]
    cameras: list[str]
    fusion: str
    shift: int
    proprio: bool
    proprio_noise: float
    precision: str
    channels_last: bool

    def __post_init__(self) -> None:
        _check_choice("encoder.network", self.network, ("vit", "resnet18", "resnet96", "drq"))
        _check_choice("encoder.precision", self.precision, ("float32", "bfloat16"))
        _check_choice("encoder.fusion", self.fusion, ("concatenate", "add", "multiply"))
        _check(bool(self.cameras), "encoder.cameras", self.cameras, "one camera or more")
        for name in ("shift", "proprio_noise"):
            _check(getattr(self, name) >= 0, f"encoder.{name}", getattr(self, name), "0 or more")


@dataclass
class NetworkConfig:
    hidden: list[int]
    dropout: float
    embedding: str = "compressed"
    embedding_size: int = 128

    def __post_init__(self) -> None:
        _check(min(self.hidden, default=0) >= 1, "hidden", self.hidden, "a list of widths")
        _check(0 <= self.dropout < 1, "dropout", self.dropout, "in [0, 1)")
        _check_choice("embedding", self.embedding, ("flat", "compressed", "spatial"))
        _check(self.embedding_size >= 1, "embedding_size", self.embedding_size, "at least 1")


@dataclass
class CriticConfig:
    hidden: list[int]
    number: int
    layer_norm: bool
    embedding: str = "spatial"
    embedding_size: int = 1024
    weights: str = "softmax"

    def __post_init__(self) -> None:
        _check(min(self.hidden, default=0) >= 1, "hidden", self.hidden, "a list of widths")
        _check(self.number >= 1, "critic.number", self.number, "at least 1")
        _check_choice("critic.embedding", self.embedding, ("spatial", "compressed"))
        _check(self.embedding_size >= 1, "embedding_size", self.embedding_size, "at least 1")
        _check_choice("critic.weights", self.weights, ("softmax", "free"))
