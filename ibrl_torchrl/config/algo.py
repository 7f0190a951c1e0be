"""Settings of the algorithm."""

from __future__ import annotations

from dataclasses import dataclass

from ibrl_torchrl.config.checks import _check, _check_choice
from ibrl_torchrl.config.networks import CriticConfig, EncoderConfig, NetworkConfig


@dataclass
class AlgoConfig:
    soft: bool
    acting: str
    bootstrap: str
    beta: float
    epsilon: float
    num_min: int
    score_acting_with: str
    actor: NetworkConfig
    critic: CriticConfig
    lr: float
    gamma: float
    tau: float
    policy_noise: float
    noise_clip: float
    noisy_actor_loss: bool
    exploration_noise: float
    warmup_episodes: int
    update_every: int
    critic_updates: int
    encoder: EncoderConfig | None = None
    name: str = "ibrl"
    warmup: str = "bc"
    pretrained: bool = False
    bc_weight: float = 0.0
    bc_filter: bool = False

    def __post_init__(self) -> None:
        _check_choice("algo.warmup", self.warmup, ("bc", "uniform"))
        _check(self.bc_weight >= 0, "algo.bc_weight", self.bc_weight, "0 or more")
        _check(
            not self.bc_filter or self.bc_weight > 0,
            "algo.bc_filter",
            self.bc_filter,
            "false unless algo.bc_weight is set",
        )
        for name in ("acting", "bootstrap"):
            _check_choice(f"algo.{name}", getattr(self, name), ("rl", "greedy", "soft", "epsilon"))
        _check_choice("algo.score_acting_with", self.score_acting_with, ("online", "target"))
        _check(
            1 <= self.num_min <= self.critic.number,
            "algo.num_min",
            self.num_min,
            f"between 1 and algo.critic.number={self.critic.number}",
        )
        _check(self.beta >= 0, "algo.beta", self.beta, "0 or more")
        _check(0 <= self.epsilon <= 1, "algo.epsilon", self.epsilon, "in [0, 1]")
        _check(self.lr > 0, "algo.lr", self.lr, "positive")
        _check(0 < self.gamma <= 1, "algo.gamma", self.gamma, "in (0, 1]")
        _check(0 < self.tau <= 0.5, "algo.tau", self.tau, "in (0, 0.5]")
        for name in ("policy_noise", "noise_clip", "exploration_noise", "warmup_episodes"):
            _check(getattr(self, name) >= 0, f"algo.{name}", getattr(self, name), "0 or more")
        for name in ("update_every", "critic_updates"):
            _check(getattr(self, name) >= 1, f"algo.{name}", getattr(self, name), "at least 1")
