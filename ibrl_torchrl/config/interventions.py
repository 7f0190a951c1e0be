"""Settings of interventions while training episodes are collected."""

from __future__ import annotations

from dataclasses import dataclass

from ibrl_torchrl.config.setting import setting


@dataclass(kw_only=True)
class InterventionsConfig:
    """Scripted stand-in for a person who takes over; people act through the environment."""

    expert: bool = setting(
        False, help="Let the task's scripted expert take over in training episodes, but no warm-up."
    )
    after: int = setting(
        20, help="Steps of an episode before it takes over, to the end.", at_least=0, unit="frames"
    )
    probability: float = setting(
        0.5, help="Share of the episodes in which it does.", at_least=0, at_most=1
    )
