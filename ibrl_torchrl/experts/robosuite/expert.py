"""Scripted policy of robosuite tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

from ibrl_torchrl.errors import unknown_name
from ibrl_torchrl.experts.robosuite.can import place_can
from ibrl_torchrl.experts.robosuite.lift import lift_cube
from ibrl_torchrl.experts.robosuite.motion import Motion, Poses, WaypointController
from ibrl_torchrl.experts.robosuite.square import place_nut
from ibrl_torchrl.keys import ACTION, IS_INIT, STATE

# One attempt to solve a task.
Plan = Callable[[Poses, WaypointController, np.random.Generator], Motion]


class _Task(NamedTuple):
    plan: Plan
    state_size: int
    object_index: int  # first index of the object's xyz and quaternion in the state


_TASKS = {
    "Lift": _Task(lift_cube, state_size=19, object_index=9),
    "PickPlaceCan": _Task(place_can, state_size=23, object_index=16),
    "NutAssemblySquare": _Task(place_nut, state_size=23, object_index=16),
}


class RobosuiteExpert(TensorDictModuleBase):
    """Scripted policy of one robosuite task: hover, descend, grasp, carry, place.

    Reads ``state``, float32 [S], and ``is_init``, bool [1]; writes ``action``, float32 [7] in
    [-1, 1]. The policy has internal state, its position in the plan, so it controls one unbatched
    episode at a time. ``is_init``, as set by TorchRL's ``InitTracker`` or ``record_demos``, starts
    a new episode. After a failed attempt, such as a lost object, the plan starts again.

    Speed, waypoints and grasp are randomised per episode. These draws and the noise come from one
    generator; the global random states are not used.

    Args:
        task: ``"Lift"``, ``"PickPlaceCan"`` or ``"NutAssemblySquare"``.
        noise: standard deviation of the Gaussian noise added to each action, default 0.
        seed: seed of the generator, default 0.

    Raises:
        UsageError: the task has no scripted expert.
        ValueError: ``noise`` is negative; when called, ``is_init`` is missing or ``state`` does not
            have the task's shape.

    Examples:
        >>> from torchrl.envs import InitTracker, TransformedEnv
        >>> from ibrl_torchrl.envs import make_env
        >>> env = TransformedEnv(make_env("robosuite", "Lift", seed=0), InitTracker())
        >>> env.rollout(100, RobosuiteExpert("Lift"))["next", "success"][-1]
        tensor([True])
    """

    is_memoryless = False  # actions depend on the episode's previous states

    def __init__(self, task: str, noise: float = 0.0, *, seed: int = 0) -> None:
        super().__init__()
        self.in_keys = [STATE, IS_INIT]
        self.out_keys = [ACTION]
        if noise < 0:
            raise ValueError(f"noise must not be negative, found {noise}")
        if task not in _TASKS:
            raise unknown_name("robosuite task with a scripted expert", task, _TASKS)
        self.task = task
        self.noise = noise
        self._generator = np.random.default_rng(seed)
        self._motion: Motion | None = None

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        state, is_init = tensordict.get(STATE), tensordict.get(IS_INIT, None)
        if is_init is None:
            raise ValueError(
                f"{IS_INIT!r} is missing, which marks the start of an episode; "
                "add TorchRL's InitTracker to the environment"
            )
        plan, size, object_index = _TASKS[self.task]
        if state.shape != (size,):
            raise ValueError(
                f"the expert of {self.task} needs unbatched states of shape {(size,)}; "
                f"found {tuple(state.shape)}"
            )
        poses = _read_poses(state.detach().cpu().double().numpy(), object_index)
        if self._motion is None or is_init.any():
            self._motion = _repeat(plan, poses, self._generator)
            action = next(self._motion)
        else:
            action = self._motion.send(poses)
        if self.noise:
            action = action + self._generator.normal(scale=self.noise, size=action.shape)
        clipped = torch.from_numpy(action.clip(-1.0, 1.0).astype(np.float32))
        return tensordict.set(ACTION, clipped.to(state.device))


def _repeat(plan: Plan, poses: Poses, rng: np.random.Generator) -> Motion:
    """Repeat a plan without end; the environment terminates the episode at the first success."""
    controller = WaypointController(rng)
    while True:
        poses = yield from plan(poses, controller, rng)


def _read_poses(state: np.ndarray, object_index: int) -> Poses:
    """Poses in a state [S]."""
    return Poses(
        eef_pos=state[:3],
        eef_quat=state[3:7],
        object_pos=state[object_index : object_index + 3],
        object_quat=state[object_index + 3 : object_index + 7],
    )
