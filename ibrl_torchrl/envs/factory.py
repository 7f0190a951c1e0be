"""Environments by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ibrl_torchrl.envs.base import SparseRewardEnv
from ibrl_torchrl.envs.env_args import ROBOSUITE, robosuite_settings
from ibrl_torchrl.envs.metaworld import MetaWorldEnv
from ibrl_torchrl.envs.robosuite import RobosuiteEnv
from ibrl_torchrl.errors import UsageError, unknown_name

# A suite's module imports its simulator when the first environment is made, not before.
SUITES: dict[str, Callable[..., SparseRewardEnv]] = {
    "metaworld": MetaWorldEnv,
    "robosuite": RobosuiteEnv,
}


def make_env(suite: str, task: str, *, seed: int | None = None, **kwargs: Any) -> SparseRewardEnv:
    """Make one environment.

    Args:
        suite: name of the simulator: ``"metaworld"`` or ``"robosuite"``.
        task: name of the task in that suite.
        seed: seed of the start states; None draws fresh entropy.
        kwargs: further arguments of the suite's environment.

    Raises:
        UsageError: the suite or the task is unknown, or the simulator is not installed.
    """
    if suite not in SUITES:
        raise unknown_name("suite", suite, SUITES)
    return SUITES[suite](task, seed=seed, **kwargs)


def make_env_like(
    env_args: Mapping[str, Any], *, seed: int | None = None, **kwargs: Any
) -> SparseRewardEnv:
    """Make the environment that a file of demonstrations was recorded in.

    Args:
        env_args: of the file, this package's or robomimic's of a robosuite task; controllers of
            robosuite 1.4 are translated.
        seed: seed of the start states; None draws fresh entropy.
        kwargs: arguments of the suite's environment, instead of the file's.

    Raises:
        UsageError: the file does not say enough, its suite or task is unknown, its simulator is
            not installed or does not take the arguments.
    """
    task, suite = env_args.get("env_name"), env_args.get("type")
    if task is None or suite is None:
        raise UsageError("the file does not say what it was recorded in (env_args lacks env_name)")
    settings = dict(env_args.get("env_kwargs", {}))
    own = env_args.get("ibrl_torchrl", {})
    if suite == ROBOSUITE:
        suite, settings = "robosuite", {"settings": robosuite_settings(settings)}
    try:
        return make_env(str(suite), str(task), seed=seed, **{**settings, **own, **kwargs})
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        # The simulator's answer to arguments that it does not know.
        reason = " ".join(str(error).split())
        raise UsageError(f"cannot make {task} as the file describes it: {reason}") from error
