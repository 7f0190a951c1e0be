"""Factory of environments by the names of suite and task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any

from torchrl.envs import EnvBase

from ibrl_torchrl.envs.env_args import ROBOSUITE, robosuite_settings
from ibrl_torchrl.envs.gym import gym_env
from ibrl_torchrl.envs.metaworld import MetaWorldEnv
from ibrl_torchrl.envs.requirements import task_env
from ibrl_torchrl.envs.robosuite import RobosuiteEnv
from ibrl_torchrl.errors import UsageError, brief
from ibrl_torchrl.registry import Registry

# Simulators are imported when the first environment of a suite is created.
SUITES: Registry[EnvBase] = Registry(
    "suite",
    "ibrl_torchrl.suites",
    EnvBase,
    {"metaworld": MetaWorldEnv, "robosuite": RobosuiteEnv, "gym": gym_env},
)
# Settings that a suite need not take while they have these values.
_NEUTRAL: Mapping[str, Any] = {"action_repeat": 1}


def make_env(suite: str, task: str, *, seed: int | None = None, **kwargs: Any) -> EnvBase:
    """Create an environment by the names of its suite and task.

    Args:
        suite: ``"metaworld"``, ``"robosuite"``, ``"gym"``, a suite of another package (entry point
            in the group ``ibrl_torchrl.suites``), or a Python path ``"module:name"`` of a class of
            environments or of a function annotated to return one, which is called with ``task``
            and those of the arguments below that it takes.
        task: name of the task in that suite.
        seed: seed of the initial states; default None, entropy of the operating system.
        kwargs: further arguments of the suite's environment, see :class:`MetaWorldEnv`,
            :class:`RobosuiteEnv` and :func:`~ibrl_torchrl.envs.gym.gym_env`; ``device`` is the
            device of its tensors.

    Returns:
        The environment, with actions in [-1, 1]; other finite bounds are mapped to them.

    Raises:
        UsageError: the suite or the task is unknown, the simulator is not installed, the suite does
            not take an argument, or the environment lacks an observation.

    Examples:
        >>> make_env("robosuite", "Lift", seed=0, horizon=100).action_spec.shape
        torch.Size([7])
    """
    factory = SUITES[suite]
    taken, others = _split_settings(factory, {"seed": seed, **kwargs})
    device = others.pop("device", None)
    seed = others.pop("seed", None)
    for name, value in others.items():
        if not (value is None or value == _NEUTRAL.get(name)):
            raise UsageError(f"task.suite={suite} takes no {name}={brief(value)}; leave it out")
    env = task_env(factory(task, **taken), suite)
    if device is not None:
        env = env.to(device)
    if seed is not None:
        env.set_seed(seed)
    return env


def _split_settings(
    factory: Callable[..., EnvBase], settings: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings that a function has parameters for, and all others."""
    # Of a class its constructor: that of its metaclass takes anything.
    called = factory.__init__ if isinstance(factory, type) else factory  # type: ignore[misc]
    parameters = signature(called).parameters
    if any(each.kind == Parameter.VAR_KEYWORD for each in parameters.values()):
        return dict(settings), {}
    taken = {name: value for name, value in settings.items() if name in parameters}
    return taken, {name: value for name, value in settings.items() if name not in parameters}


def make_env_like(
    env_args: Mapping[str, Any], *, seed: int | None = None, **kwargs: Any
) -> EnvBase:
    """Create an environment from the metadata of a demonstration file.

    Args:
        env_args: metadata of a file of this package, or of a robomimic dataset of a robosuite task;
            controllers of robosuite 1.4 are converted.
        seed: seed of the initial states; default None, entropy of the operating system.
        kwargs: arguments of the suite's environment, which override those of the file.

    Returns:
        The environment.

    Raises:
        UsageError: the metadata are incomplete, the suite or the task is unknown or would import a
            Python module, or the simulator is not installed or rejects the arguments.
    """
    task, suite = env_args.get("env_name"), env_args.get("type")
    if task is None or suite is None:
        raise UsageError("the file does not name its environment: env_args lacks env_name or type")
    for name in (str(task), str(suite)):
        if set(name) & set(":/"):  # a file of unknown origin imports nothing
            raise UsageError(
                f"the file's environment {brief(name)} would import a Python module; create it by "
                "make_env"
            )
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
