"""Settings of imitation policies."""

from __future__ import annotations

from dataclasses import dataclass

from ibrl_torchrl.config.checks import _check
from ibrl_torchrl.config.networks import EncoderConfig, NetworkConfig


@dataclass
class BCConfig:
    path: str | None
    network: NetworkConfig
    steps: int
    batch_size: int
    lr: float
    encoder: EncoderConfig | None = None
    grad_clip: float | None = None
    evaluate_every: int | None = None
    eval_episodes: int = 20
    eval_seed: int = 200_000
    keep_best: int = 1

    def __post_init__(self) -> None:
        for name in ("grad_clip", "evaluate_every"):
            value = getattr(self, name)
            _check(value is None or value > 0, f"bc.{name}", value, "null or positive")
        for name in ("eval_episodes", "keep_best"):
            _check(getattr(self, name) >= 1, f"bc.{name}", getattr(self, name), "at least 1")
        _check(self.steps >= 1, "bc.steps", self.steps, "at least 1")
        _check(self.batch_size >= 1, "bc.batch_size", self.batch_size, "at least 1")
        _check(self.lr > 0, "bc.lr", self.lr, "positive")
