"""Factory of environments by the names of suite and task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ibrl_torchrl.envs.base import SparseRewardEnv
from ibrl_torchrl.envs.env_args import ROBOSUITE, robosuite_settings
from ibrl_torchrl.envs.metaworld import MetaWorldEnv
from ibrl_torchrl.envs.robosuite import RobosuiteEnv
from ibrl_torchrl.errors import UsageError, brief, unknown_name

# Simulators are imported when the first environment of a suite is created.
SUITES: dict[str, Callable[..., SparseRewardEnv]] = {
    "metaworld": MetaWorldEnv,
    "robosuite": RobosuiteEnv,
}


def make_env(suite: str, task: str, *, seed: int | None = None, **kwargs: Any) -> SparseRewardEnv:
    """Create an environment by the names of its suite and task.

    Args:
        suite: name of the simulator: ``"metaworld"`` or ``"robosuite"``.
        task: name of the task in that suite.
        seed: seed of the initial states; default None, entropy of the operating system.
        kwargs: further arguments of :class:`MetaWorldEnv` or :class:`RobosuiteEnv`.

    Returns:
        The environment.

    Raises:
        UsageError: the suite or the task is unknown, or the simulator is not installed.

    Examples:
        >>> make_env("robosuite", "Lift", seed=0, horizon=100).action_spec.shape
        torch.Size([7])
    """
    if suite not in SUITES:
        raise unknown_name("suite", suite, SUITES)
    return SUITES[suite](task, seed=seed, **kwargs)


def make_env_like(
    env_args: Mapping[str, Any], *, seed: int | None = None, **kwargs: Any
) -> SparseRewardEnv:
    """Create an environment from the metadata of a demonstration file.

    Args:
        env_args: metadata of a file of this package, or of a robomimic dataset of a robosuite task;
            controllers of robosuite 1.4 are converted.
        seed: seed of the initial states; default None, entropy of the operating system.
        kwargs: arguments of the suite's environment, which override those of the file.

    Returns:
        The environment.

    Raises:
        UsageError: the metadata are incomplete, the suite or the task is unknown, or the simulator
            is not installed or rejects the arguments.
    """
    task, suite = env_args.get("env_name"), env_args.get("type")
    if task is None or suite is None:
        raise UsageError("the file does not name its environment: env_args lacks env_name or type")
    settings = dict(env_args.get("env_kwargs", {}))
    wrapper_kwargs = env_args.get("ibrl_torchrl", {})
    if suite == ROBOSUITE:
        suite, settings = "robosuite", {"settings": robosuite_settings(settings)}
    try:
        return make_env(
            str(suite), str(task), seed=seed, **{**settings, **wrapper_kwargs, **kwargs}
        )
    except UsageError:
        raise
    except Exception as error:  # simulators raise various types for invalid arguments
        reason = brief(error, 200) or type(error).__name__
        raise UsageError(
            f"cannot create {brief(task)} from the metadata of the file: {reason}"
        ) from error
