"""The module that follows a task's plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

from ibrl_torchrl.errors import unknown_name
from ibrl_torchrl.experts.robosuite.can import move_can
from ibrl_torchrl.experts.robosuite.hand import Hand, Motion, Scene
from ibrl_torchrl.experts.robosuite.lift import lift_cube
from ibrl_torchrl.experts.robosuite.square import thread_nut
from ibrl_torchrl.keys import ACTION, IS_INIT, STATE

Attempt = Callable[[Scene, Hand, np.random.Generator], Motion]


class _Task(NamedTuple):
    attempt: Attempt
    state_size: int
    object_at: int  # where the object's xyz and quaternion begin in the state


_TASKS = {
    "Lift": _Task(lift_cube, state_size=19, object_at=9),
    "PickPlaceCan": _Task(move_can, state_size=23, object_at=16),
    "NutAssemblySquare": _Task(thread_nut, state_size=23, object_at=16),
}


class RobosuiteExpert(TensorDictModuleBase):
    """Solves one robosuite task as a person would: hover, descend, grasp, carry, place.

    Reads ``state``, float32 [S], and ``is_init``, bool [1]; writes ``action``, float32 [7] in
    [-1, 1]. It remembers where in its plan it is, so it follows one episode at a time, without
    batches; ``is_init`` begins a new one, as TorchRL's ``InitTracker`` or ``record_demos``
    announce it. When an object slips, it starts over.

    Each episode is a little different: in speed, in the ways there, in where the object is held.
    That and the noise come from one generator of its own; the global random states are not used.

    Args:
        task: ``"Lift"``, ``"PickPlaceCan"`` or ``"NutAssemblySquare"``.
        noise: standard deviation of the Gaussian noise added to each action, default none.
        seed: seed of the variety and of the noise, default 0.

    Raises:
        UsageError: no expert is known for the task.
        ValueError: ``noise`` is negative; when called, ``is_init`` is missing or ``state`` has
            another shape than the task's.

    Examples:
        >>> from torchrl.envs import InitTracker, TransformedEnv
        >>> from ibrl_torchrl.envs import make_env
        >>> env = TransformedEnv(make_env("robosuite", "Lift", seed=0), InitTracker())
        >>> env.rollout(100, RobosuiteExpert("Lift"))["next", "success"][-1]
        tensor([True])
    """

    is_memoryless = False  # follows a plan from the episode's start

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
                f"{IS_INIT!r} is missing, which tells this expert that an episode begins; "
                "add TorchRL's InitTracker to the environment"
            )
        attempt, size, object_at = _TASKS[self.task]
        if state.shape != (size,):
            raise ValueError(
                f"the expert of {self.task} follows one episode, with states of shape {(size,)}; "
                f"found {tuple(state.shape)}"
            )
        scene = _scene(state.detach().cpu().double().numpy(), object_at)
        if self._motion is None or is_init.any():
            self._motion = _keep_trying(attempt, scene, self._generator)
            action = next(self._motion)
        else:
            action = self._motion.send(scene)
        if self.noise:
            action = action + self._generator.normal(scale=self.noise, size=action.shape)
        action = torch.from_numpy(action.clip(-1.0, 1.0).astype(np.float32))
        return tensordict.set(ACTION, action.to(state.device))


def _keep_trying(attempt: Attempt, scene: Scene, rng: np.random.Generator) -> Motion:
    """Attempts without end; an environment ends its episode at the first success."""
    hand = Hand(rng)
    while True:
        scene = yield from attempt(scene, hand, rng)


def _scene(state: np.ndarray, object_at: int) -> Scene:
    return Scene(
        hand=state[:3],
        hand_quat=state[3:7],
        object=state[object_at : object_at + 3],
        object_quat=state[object_at + 3 : object_at + 7],
    )
