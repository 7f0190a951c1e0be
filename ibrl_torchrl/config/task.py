"""Settings of the task and its demonstrations."""

from __future__ import annotations

from dataclasses import dataclass, field

from ibrl_torchrl.config.checks import _check


@dataclass
class TaskConfig:
    suite: str
    name: str
    action_repeat: int
    horizon: int
    cameras: list[str] = field(default_factory=list)
    image_size: int = 96
    render_quality: str = "fast"
    frame_stack: int = 1
    state_stack: int = 1
    state_parts: list[str] | None = None
    min_std: float = 0.1
    start_states: int = 0

    def __post_init__(self) -> None:
        for name in ("frame_stack", "state_stack"):
            _check(getattr(self, name) >= 1, f"task.{name}", getattr(self, name), "at least 1")
        _check(self.state_parts != [], "task.state_parts", self.state_parts, "one part or more")
        _check(self.min_std > 0, "task.min_std", self.min_std, "above 0")
        _check(self.start_states >= 0, "task.start_states", self.start_states, "0 or more")

    @property
    def label(self) -> str:
        """What checkpoints and tables call it, such as ``"metaworld/box-close"``."""
        return f"{self.suite}/{self.name}"


@dataclass
class DemosConfig:
    path: str | None
    episodes: int
    noise: float
    seed: int
    filter_key: str | None = None

    def __post_init__(self) -> None:
        _check(self.episodes >= 1, "demos.episodes", self.episodes, "at least 1")
        _check(self.noise >= 0, "demos.noise", self.noise, "0 or more")
