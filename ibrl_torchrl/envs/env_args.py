"""Environment metadata of demonstration files, in robomimic's format ``env_args``.

``env_args`` is a JSON object: ``env_name``, ``env_version``, ``type`` (name of the suite, or
robomimic's number of it), ``env_kwargs`` (arguments of the simulator); files of this package add
``ibrl_torchrl`` (arguments of its environment) and, if ``state`` is stored in parts,
``state_parts`` (their sizes).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

ROBOSUITE = 1  # robomimic's EnvType of robosuite


def is_before_1_5(env_args: Mapping[str, Any]) -> bool:
    """Whether a file was recorded with robosuite 1.4 or earlier, or has no version."""
    numbers = re.findall(r"\d+", str(env_args.get("env_version", "")))[:2]
    return tuple(map(int, numbers)) < (1, 5)


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
