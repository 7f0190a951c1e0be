"""Scripted policies that solve a task from its state, as a source of demonstrations."""

from __future__ import annotations

from ibrl_torchrl.errors import unknown_name
from ibrl_torchrl.experts.metaworld import MetaWorldExpert
from ibrl_torchrl.experts.robosuite import RobosuiteExpert

__all__ = ["MetaWorldExpert", "RobosuiteExpert", "scripted_expert"]

_SUITES = {"metaworld": MetaWorldExpert, "robosuite": RobosuiteExpert}


def scripted_expert(
    suite: str, task: str, noise: float = 0.0, *, seed: int = 0
) -> MetaWorldExpert | RobosuiteExpert:
    """Make the scripted policy of a task.

    Args:
        suite: name of the simulator: ``"metaworld"`` or ``"robosuite"``.
        task: name of the task; Meta-World's with or without the version suffix.
        noise: standard deviation of the Gaussian noise added to each action, default none.
        seed: seed of that noise, and of the variety that robosuite's experts have, default 0.

    Raises:
        UsageError: no expert is known for this suite or task, or metaworld is not installed.
        ValueError: ``noise`` is negative.
    """
    if suite not in _SUITES:
        raise unknown_name("suite of scripted experts", suite, _SUITES)
    return _SUITES[suite](task, noise, seed=seed)
