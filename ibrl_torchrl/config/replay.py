"""Settings of the replay."""

from __future__ import annotations

from dataclasses import dataclass

from ibrl_torchrl.config.checks import _check, _check_choice


@dataclass
class ReplayConfig:
    capacity: int
    batch_size: int
    storage: str
    n_steps: int
    time_limit_terminates: bool
    prioritized: bool
    alpha: float
    beta: float
    demo_share: float | None
    keep_successes: bool
    record_proposals: bool = False
    demo_reward: float | None = None
    online_reward: float | None = None

    def __post_init__(self) -> None:
        _check_choice("replay.storage", self.storage, ("memory", "memmap"))
        for name in ("capacity", "batch_size", "n_steps"):
            _check(getattr(self, name) >= 1, f"replay.{name}", getattr(self, name), "at least 1")
        for name in ("alpha", "beta"):
            _check(getattr(self, name) >= 0, f"replay.{name}", getattr(self, name), "0 or more")
        share = self.demo_share
        _check(share is None or 0 < share < 1, "replay.demo_share", share, "null or in (0, 1)")
        _check(
            not self.keep_successes or share is not None,
            "replay.keep_successes",
            self.keep_successes,
            "false unless replay.demo_share is set",
        )
        _check(
            self.demo_reward == self.online_reward or share is not None,
            "replay.demo_reward",
            self.demo_reward,
            "replay.online_reward unless replay.demo_share is set",
        )
