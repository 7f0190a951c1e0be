"""Scripted experts, which solve tasks from low-dimensional states, for demonstrations."""

from __future__ import annotations

from ibrl_torchrl.errors import unknown_name
from ibrl_torchrl.experts.metaworld import MetaWorldExpert
from ibrl_torchrl.experts.robosuite import RobosuiteExpert

__all__ = ["MetaWorldExpert", "RobosuiteExpert", "scripted_expert"]

_SUITES: dict[str, type[MetaWorldExpert] | type[RobosuiteExpert]] = {
    "metaworld": MetaWorldExpert,
    "robosuite": RobosuiteExpert,
}


def scripted_expert(
    suite: str, task: str, noise: float = 0.0, *, seed: int = 0
) -> MetaWorldExpert | RobosuiteExpert:
    """Create the scripted expert of a task.

    Args:
        suite: name of the simulator: ``"metaworld"`` or ``"robosuite"``.
        task: name of the task; Meta-World's with or without the version suffix.
        noise: standard deviation of the Gaussian noise added to each action, default 0.
        seed: seed of the noise and of the random waypoints of robosuite's experts, default 0.

    Returns:
        Policy that reads ``state`` and writes ``action``.

    Raises:
        UsageError: the suite or task has no scripted expert, or metaworld is not installed.
        ValueError: ``noise`` is negative.
    """
    if suite not in _SUITES:
        raise unknown_name("suite of scripted experts", suite, _SUITES)
    return _SUITES[suite](task, noise, seed=seed)
