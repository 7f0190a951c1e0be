"""Environment metadata of demonstration files, in robomimic's format ``env_args``.

``env_args`` is a JSON object: ``env_name``, ``env_version``, ``type`` (name of the suite, or
robomimic's number of it), ``env_kwargs`` (arguments of the simulator); files of this package add
``ibrl_torchrl`` (arguments of its environment), ``state_parts`` (sizes) if ``state`` is stored in
parts, and ``action_bounds`` (``low`` and ``high``, two lists) if these are not [-1, 1].
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from torchrl.data import Bounded
from torchrl.envs import EnvBase

ROBOSUITE = 1  # robomimic's EnvType of robosuite


_MAX_ENV_ARGS = 1 << 20  # characters; robomimic's have some 2000
# Limits of numbers: a control step of robosuite has 500 / control_freq steps of the simulator.
_LIMITS: dict[str, tuple[float, float]] = {
    "action_repeat": (1, 1000),
    "control_freq": (1, 500),
    "horizon": (1, 10**7),
    "image_size": (1, 4096),
}


def parse_env_args(text: str) -> dict[str, Any]:
    """Parse and check the environment metadata of a file of unknown origin.

    Args:
        text: JSON object.

    Raises:
        ValueError: it is no JSON object, a part of it is of another type, or a number is out of the
            limits within which a simulator answers in finite time.
    """
    if len(text) > _MAX_ENV_ARGS:
        raise ValueError(f"has {len(text)} characters, at most {_MAX_ENV_ARGS} are read")
    try:
        env_args = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({error})") from error
    if not isinstance(env_args, dict):
        raise ValueError("is not a JSON object")
    for name, kinds in (("env_name", str), ("env_version", str), ("type", (str, int))):
        _require_type(env_args, name, kinds)
    for name in ("env_kwargs", "ibrl_torchrl", "state_parts", "action_bounds"):
        _require_type(env_args, name, dict)
        _require_limits(env_args.get(name) or {})
    for name, size in (env_args.get("state_parts") or {}).items():
        if type(size) is not int or not 0 <= size <= 10**6:
            raise ValueError(f"has state_parts.{name}={size}, must be a size")
    _require_robosuite(env_args.get("env_kwargs") or {})
    _require_bounds(env_args.get("action_bounds") or {})
    return env_args


def parse_env_info(name: str, text: str, version: str | None) -> dict[str, Any]:
    """Environment metadata of a raw recording of robosuite, as robomimic would write it.

    Args:
        name: name of the task.
        text: JSON object of arguments of the simulator, with the task's name among them.
        version: version of robosuite; None if the file does not state it.

    Raises:
        ValueError: see :func:`parse_env_args`.
    """
    env_kwargs = parse_env_args(text)
    env_kwargs.pop("env_name", None)
    env_args = {"env_name": name, "type": ROBOSUITE, "env_kwargs": env_kwargs}
    return parse_env_args(
        json.dumps(env_args if version is None else {**env_args, "env_version": version})
    )


def env_args_of(env: EnvBase) -> dict[str, Any]:
    """Environment metadata of any TorchRL environment.

    Args:
        env: environment, whose ``env_args`` are taken if it has any.

    Returns:
        ``env_args``, or the name of its class as ``env_name``, with ``action_bounds`` if the bounds
        of its actions are finite and not [-1, 1].
    """
    base = getattr(env, "base_env", env)
    args = dict(getattr(env, "env_args", {"env_name": type(base).__name__, "type": "torchrl"}))
    spec = env.action_spec
    if isinstance(spec, Bounded) and spec.dtype.is_floating_point:
        low, high = (bound.cpu().double().numpy() for bound in (spec.space.low, spec.space.high))
        if (low != -1).any() or (high != 1).any():
            args["action_bounds"] = {"low": low.tolist(), "high": high.tolist()}
    return args


def action_bounds(env_args: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the actions of a file, float32 [A], or [] where all are [-1, 1]."""
    bounds = env_args.get("action_bounds") or {"low": -1.0, "high": 1.0}
    return np.asarray(bounds["low"], np.float32), np.asarray(bounds["high"], np.float32)


def with_action_bounds(
    env_args: Mapping[str, Any], bounds: tuple[np.ndarray, np.ndarray] | None
) -> dict[str, Any]:
    """Environment metadata with other bounds of the actions; None leaves them as they are."""
    if bounds is None:
        return dict(env_args)
    low, high = (each.astype(np.float64).tolist() for each in bounds)
    return {**env_args, "action_bounds": {"low": low, "high": high}}


def _require_bounds(bounds: Mapping[str, Any]) -> None:
    if not bounds:
        return
    low, high = bounds.get("low") or [], bounds.get("high") or []
    for each in (low, high):
        if not isinstance(each, list) or not 1 <= len(each) <= 10**4:
            raise ValueError("has action_bounds, must be two lists, low and high")
        if not all(type(value) in (int, float) and math.isfinite(value) for value in each):
            raise ValueError("has action_bounds, must be finite numbers")
    if len(low) != len(high) or not all(a < b for a, b in zip(low, high, strict=True)):
        raise ValueError("has action_bounds, must be as many, low < high")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"has {name}, which is no number")


def _require_type(values: Mapping[str, Any], name: str, kinds: type | tuple[type, ...]) -> None:
    value = values.get(name)
    if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
        raise ValueError(f"has {name} of type {type(value).__name__}")


def _require_limits(values: Mapping[str, Any]) -> None:
    for name, (low, high) in _LIMITS.items():
        if (value := values.get(name)) is None:
            continue
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not low <= value <= high:
            raise ValueError(f"has {name}={value}, must be a number from {low:g} to {high:g}")
    for name in ("action_repeat", "horizon", "image_size"):
        if not isinstance(values.get(name) or 1, int):
            raise ValueError(f"has {name}={values[name]}, must be an integer")
    cameras = values.get("cameras") or []
    if not isinstance(cameras, list) or not all(isinstance(each, str) for each in cameras):
        raise ValueError(f"has cameras={cameras}, must be a list of names")


def _require_robosuite(values: Mapping[str, Any]) -> None:
    """Refuse robots and controllers of other types than robosuite has."""
    robots = values.get("robots") or ""
    names = [robots] if isinstance(robots, str) else robots
    if not isinstance(names, list) or len(names) > 4 or not all(isinstance(n, str) for n in names):
        raise ValueError("has robots, must be one to four names")
    controllers = values.get("controller_configs") or {}
    for config in controllers if isinstance(controllers, list) else [controllers]:
        parts = config.get("body_parts", {}) if isinstance(config, dict) else None
        if not isinstance(parts, dict) or not isinstance(parts.get("right") or {}, dict):
            raise ValueError("has controller_configs, must be an object or a list of objects")


def is_before_1_5(env_args: Mapping[str, Any]) -> bool:
    """Whether a file was recorded with robosuite 1.4 or earlier, or has no version."""
    numbers = re.findall(r"\d+", str(env_args.get("env_version", "")))[:2]
    return tuple(map(int, numbers)) < (1, 5)


def suite_of(env_args: Mapping[str, Any]) -> str:
    """Name of the suite of a file's environment; empty if the file has none."""
    kind = env_args.get("type", "")
    return "robosuite" if kind == ROBOSUITE else str(kind)


def signature(env_args: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that demonstrations and environment must share: robots, control rate, controller.

    Args:
        env_args: environment metadata.

    Returns:
        Specified values by description; empty for other suites than robosuite.
    """
    if env_args.get("type") != ROBOSUITE:
        return {}
    settings = env_args.get("env_kwargs", {})
    robots = settings.get("robots")
    arm = arm_controller(settings)
    values = {
        "robots": [robots] if isinstance(robots, str) else robots,
        "control_freq": settings.get("control_freq"),
        "action_repeat": env_args.get("ibrl_torchrl", {}).get("action_repeat", 1),
        "controller": arm.get("type"),
        "controller's output_max": arm.get("output_max"),
        "controller's kp": arm.get("kp"),
        "controller's input": arm.get("input_type"),
    }
    return {name: value for name, value in values.items() if value is not None}


def arm_controller(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Controller configuration of the (right) arm, in the format of robosuite 1.5.

    Until robosuite 1.4 ``controller_configs`` was the arm's configuration itself, and until 1.5.0
    ``control_delta`` stood for ``input_type``.

    Args:
        settings: arguments of a robosuite environment, of any version.

    Returns:
        The configuration; empty if none is specified.
    """
    config = settings.get("controller_configs") or {}
    config = config[0] if isinstance(config, list) else config
    arm = config["body_parts"].get("right") if "body_parts" in config else config
    if not arm:
        return {}
    input_type = arm.get("input_type") or (
        "delta" if arm.get("control_delta", True) else "absolute"
    )
    return {**arm, "input_type": input_type, "gripper": {"type": "GRIP"}}


# Arguments of robosuite's environments that concern rendering, observations or the control loop.
_TASK_INDEPENDENT = re.compile(
    r"has_(offscreen_)?renderer|render\w*|camera_\w+|use_\w+_obs|ignore_done|horizon|seed"
    r"|hard_reset|lite_physics|reward_\w+"
)


def robosuite_settings(env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the arguments of a file's environment, of any version, to those of robosuite 1.5.

    Args:
        env_kwargs: arguments for the version that recorded the file.

    Returns:
        ``settings`` of :class:`RobosuiteEnv`.
    """
    settings = {
        name: value for name, value in env_kwargs.items() if not _TASK_INDEPENDENT.fullmatch(name)
    }
    arm = arm_controller(env_kwargs)
    if arm:
        # Until 1.5.0 deltas were in the world frame, independent of the arm's mount.
        arm.setdefault("input_ref_frame", "world")
        settings["controller_configs"] = {"type": "BASIC", "body_parts": {"right": arm}}
    return settings
