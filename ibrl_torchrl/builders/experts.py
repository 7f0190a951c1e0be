"""Scripted experts from settings."""

from __future__ import annotations

from tensordict.nn import TensorDictModuleBase

from ibrl_torchrl.config.task import DemosConfig, TaskConfig
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.experts import EXPERTS, is_memoryless, scripted_expert


def demo_expert(config: DemosConfig, task: TaskConfig, noise: float = 0.0) -> TensorDictModuleBase:
    """Scripted expert of a task.

    Args:
        config: settings of the demonstrations, which may name another expert.
        task: settings of the task.
        noise: standard deviation of the Gaussian noise added to each action, default 0.

    Raises:
        UsageError: there is none.
    """
    suite = config.expert or task.suite
    if config.expert is None and task.suite not in EXPERTS.names():
        raise UsageError(
            f"task={task.label}: has no scripted expert; set demos.path=FILE or "
            "demos.expert=MODULE:NAME"
        )
    return scripted_expert(suite, task.name, noise, seed=config.seed)


def any_state_expert(config: DemosConfig, task: TaskConfig, use: str) -> TensorDictModuleBase:
    """Scripted expert that can act in any state of a task, also one that another policy led to.

    Args:
        config: settings of the demonstrations, which may name another expert.
        task: settings of the task.
        use: what needs it, for the message, such as ``"DAgger"``.

    Raises:
        UsageError: there is none, or the expert's actions depend on previous states.
    """
    expert = demo_expert(config, task)
    if not is_memoryless(expert):
        raise UsageError(
            f"task={task.label}: its scripted expert follows a plan through its own episode, and "
            f"{use} needs its action at states that others visit; choose a task of metaworld, or "
            "set is_memoryless = True on an expert of yours"
        )
    return expert
