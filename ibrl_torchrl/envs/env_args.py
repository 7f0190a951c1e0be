"""What a file of demonstrations says of its environment, in robomimic's words.

``env_args`` are JSON: ``env_name``, ``env_version``, ``type`` (the suite's name, or robomimic's
number of it), ``env_kwargs`` (arguments of the simulator), and from this package ``ibrl_torchrl``
(arguments of its environment) and, where a state is stored in parts, ``state_parts`` (their sizes).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

ROBOSUITE = 1  # robosuite's number among robomimic's types of environments


def is_before_1_5(env_args: Mapping[str, Any]) -> bool:
    """Whether a file was recorded with robosuite 1.4 or earlier; the first files do not say."""
    numbers = re.findall(r"\d+", str(env_args.get("env_version", "")))[:2]
    return tuple(map(int, numbers)) < (1, 5)


def signature(env_args: Mapping[str, Any]) -> dict[str, Any]:
    """What has to agree between a file and an environment: robots, rate, and control of the arm."""
    settings = env_args.get("env_kwargs", {})
    if env_args.get("type") != ROBOSUITE:
        return {}
    robots = settings.get("robots")
    arm = arm_controller(settings)
    found = {
        "robots": [robots] if isinstance(robots, str) else robots,
        "control_freq": settings.get("control_freq"),
        "action_repeat": env_args.get("ibrl_torchrl", {}).get("action_repeat", 1),
        "controller": arm.get("type"),
        "controller's output_max": arm.get("output_max"),
        "controller's kp": arm.get("kp"),
        "controller's input": arm.get("input_type"),
    }
    return {name: value for name, value in found.items() if value is not None}


def arm_controller(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The controller of the (right) arm, in the words of robosuite 1.5; empty if none is told.

    Until robosuite 1.4 it stood at the top of ``controller_configs``, and until 1.5.0 deltas were
    asked for by ``control_delta``.
    """
    config = settings.get("controller_configs") or {}
    config = config[0] if isinstance(config, list) else config
    arm = config["body_parts"].get("right") if "body_parts" in config else config
    if not arm:
        return {}
    kind = arm.get("input_type") or ("delta" if arm.get("control_delta", True) else "absolute")
    return {**arm, "input_type": kind, "gripper": {"type": "GRIP"}}


# Arguments of robosuite's environments that say how a file's images were made or how its loop ran.
_NOT_OF_THE_TASK = re.compile(
    r"has_(offscreen_)?renderer|render\w*|camera_\w+|use_\w+_obs|ignore_done|horizon|seed"
    r"|hard_reset|lite_physics|reward_\w+"
)


def robosuite_settings(env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for robosuite 1.5 that make the environment of a file, of any version.

    Args:
        env_kwargs: arguments of the version that recorded it.
    """
    settings = {
        name: value for name, value in env_kwargs.items() if not _NOT_OF_THE_TASK.fullmatch(name)
    }
    arm = arm_controller(env_kwargs)
    if arm:
        # Until 1.5.0 deltas were in the world's frame, whatever way an arm was mounted.
        arm.setdefault("input_ref_frame", "world")
        settings["controller_configs"] = {"type": "BASIC", "body_parts": {"right": arm}}
    return settings
