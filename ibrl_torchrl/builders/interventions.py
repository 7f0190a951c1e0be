"""Interventions from settings and environment."""

from __future__ import annotations

from typing import Any

from torchrl.envs import EnvBase

from ibrl_torchrl.builders.experts import any_state_expert
from ibrl_torchrl.config.interventions import InterventionsConfig
from ibrl_torchrl.config.setting import require
from ibrl_torchrl.config.task import DemosConfig, TaskConfig
from ibrl_torchrl.keys import INTERVENTION
from ibrl_torchrl.modules import NewestState, TakeOver

_SETTING = "interventions.expert"


class _Expert(NewestState):
    """Scripted expert on a task's observations; processes make their own, as it may not pickle."""

    def __init__(self, demos: DemosConfig, task: TaskConfig) -> None:
        super().__init__(any_state_expert(demos, task, f"{_SETTING}=true"), task.state_stack)
        self._settings = demos, task

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._settings


def scripted_intervention(
    config: InterventionsConfig, demos: DemosConfig, task: TaskConfig, env: EnvBase
) -> TakeOver | None:
    """Scripted stand-in for a person; None without one.

    Args:
        config: settings of the stand-in.
        demos: settings of the demonstrations, which may name another expert.
        task: settings of the task.
        env: environment of the task.

    Raises:
        UsageError: the task has no expert that can act in any state, or the environment reports
            interventions of its own.
    """
    if not config.expert:
        return None
    is_free = INTERVENTION not in env.observation_spec
    require(is_free, _SETTING, True, "false, for the environment reports interventions itself")
    return TakeOver(_Expert(demos, task), after=config.after, probability=config.probability)


def has_interventions(env: EnvBase, intervention: TakeOver | None) -> bool:
    """Whether somebody else than the policy may act in training episodes."""
    return intervention is not None or INTERVENTION in env.observation_spec
