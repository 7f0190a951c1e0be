"""Environments by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torchrl.envs import EnvBase

from ibrl_torchrl.envs.metaworld import MetaWorldEnv
from ibrl_torchrl.errors import unknown_name

# A suite's module imports its simulator when the first environment is made, not before.
SUITES: dict[str, Callable[..., EnvBase]] = {"metaworld": MetaWorldEnv}


def make_env(suite: str, task: str, *, seed: int | None = None, **kwargs: Any) -> EnvBase:
    """Make one environment.

    Args:
        suite: name of the simulator: ``"metaworld"``.
        task: name of the task in that suite.
        seed: seed of the start states; None draws fresh entropy.
        kwargs: further arguments of the suite's environment.

    Raises:
        UsageError: the suite or the task is unknown, or the simulator is not installed.
    """
    if suite not in SUITES:
        raise unknown_name("suite", suite, SUITES)
    return SUITES[suite](task, seed=seed, **kwargs)
