"""Environment from settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torchrl.envs import CatFrames, Compose, EnvBase, Transform, TransformedEnv

from ibrl_torchrl.config.task import TaskConfig
from ibrl_torchrl.envs import make_env
from ibrl_torchrl.errors import UsageError, unknown_name
from ibrl_torchrl.keys import PROPRIO, STATE, image_key


def build_env(task: TaskConfig, device: torch.device | None = None) -> EnvBase:
    """Environment of a task, with stacked observations if it has any.

    Args:
        task: settings of the task.
        device: device of its tensors and of the policies.

    Raises:
        UsageError: the task or a part of its state is unknown, or its settings do not fit the
            simulator.
    """
    settings: dict[str, Any] = {"action_repeat": task.action_repeat, **task.kwargs}
    optional = {"horizon": task.horizon, "success": task.success, "proprio": task.proprio}
    settings |= {name: value for name, value in optional.items() if value}
    if task.cameras:
        settings |= {
            "cameras": task.cameras,
            "image_size": task.image_size,
            "render_quality": task.render_quality,
        }
    try:
        env = make_env(task.suite, task.name, device=device, **settings)
    except ValueError as error:
        raise UsageError(f"task: {error}") from error
    _require_parts(task, getattr(env, "state_parts", {}))
    observed = env.observation_spec.keys()
    stacks: list[Transform] = [
        CatFrames(
            stack.size, stack.dim, [k for k in stack.keys if k in observed], padding=stack.padding
        )
        for stack in observation_stacks(task)
    ]
    return TransformedEnv(env, Compose(*stacks), auto_unwrap=True) if stacks else env


def _require_parts(task: TaskConfig, parts: Mapping[str, int]) -> None:
    """Refuse unknown parts of a state, and positions of different sizes."""
    positions = task.relative_positions
    for name in (*(task.state_parts or ()), *positions):
        if name not in parts:
            raise unknown_name(f"part of the state of {task.name}", name, parts)
    if len({parts[name] for name in positions}) > 1:
        sizes = {name: parts[name] for name in positions}
        raise UsageError(
            f"task.relative_positions={positions} must be parts of one size, not of {sizes}"
        )


class ObservationStack(NamedTuple):
    """Observations of the last steps as one, as TorchRL's ``CatFrames`` makes them.

    Attributes:
        keys: keys of the observations.
        size: number of steps, at least 2.
        dim: dimension along which they are concatenated, the last step last.
        padding: what precedes the first step: ``"same"``, that step repeated, or ``"constant"``, 0.
    """

    keys: tuple[str, ...]
    size: int
    dim: int
    padding: str


def observation_stacks(task: TaskConfig) -> list[ObservationStack]:
    """Stacks of a task's observations, of those that it has; empty if none is stacked."""
    stacks = []
    if task.cameras and task.frame_stack > 1:
        keys = tuple(map(image_key, task.cameras))
        stacks.append(ObservationStack(keys, task.frame_stack, -3, "same"))
    if task.state_stack > 1:
        stacks.append(ObservationStack((STATE, PROPRIO), task.state_stack, -1, "constant"))
    return stacks
