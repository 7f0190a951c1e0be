"""Scripted experts, which solve tasks from low-dimensional states, for demonstrations."""

from __future__ import annotations

from tensordict.nn import TensorDictModuleBase

from ibrl_torchrl.experts.metaworld import MetaWorldExpert
from ibrl_torchrl.experts.robosuite import RobosuiteExpert
from ibrl_torchrl.registry import Registry

__all__ = ["MetaWorldExpert", "RobosuiteExpert", "scripted_expert"]

EXPERTS: Registry[TensorDictModuleBase] = Registry(
    "suite of scripted experts",
    "ibrl_torchrl.experts",
    TensorDictModuleBase,
    {"metaworld": MetaWorldExpert, "robosuite": RobosuiteExpert},
)


def scripted_expert(
    suite: str, task: str, noise: float = 0.0, *, seed: int = 0
) -> TensorDictModuleBase:
    """Create the scripted expert of a task.

    Args:
        suite: name of the simulator, ``"metaworld"`` or ``"robosuite"``, or of an entry point of
            another package in the group ``ibrl_torchrl.experts``; or a Python path
            ``"module:name"`` of a class of policies or of a function annotated to return one,
            which is called with the arguments below.
        task: name of the task; Meta-World's with or without the version suffix.
        noise: standard deviation of the Gaussian noise added to each action, default 0.
        seed: seed of the noise and of the random waypoints of robosuite's experts, default 0.

    Returns:
        Policy that reads ``state`` and writes ``action``.

    Raises:
        UsageError: the suite or task has no scripted expert, or metaworld is not installed.
        ValueError: ``noise`` is negative.
    """
    return EXPERTS[suite](task, noise, seed=seed)


def is_memoryless(expert: TensorDictModuleBase) -> bool:
    """Whether an expert states that its actions depend on the current state alone."""
    return bool(getattr(expert, "is_memoryless", False))
