"""Observations, success and sparse reward of Gymnasium environments.

Imports gymnasium at module level: import this module only where it is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from PIL import Image

from ibrl_torchrl.envs.base import require_finite
from ibrl_torchrl.envs.interventions import intervening_action
from ibrl_torchrl.envs.success import SuccessRule
from ibrl_torchrl.errors import UsageError, brief, unknown_name
from ibrl_torchrl.keys import EXECUTED_ACTION, INTERVENTION, PROPRIO, STATE, SUCCESS, image_key

STATE_ENTRY = "observation"  # TorchRL's name of a state in Gymnasium's observations
RENDER = "render"  # camera whose images are those of `render()`


class TaskInterface(gymnasium.Wrapper):
    """Gymnasium environment with observations in one form, success and a sparse reward.

    Low-dimensional entries of the observation are flattened and concatenated, in the order of the
    space, to ``observation`` [S], float32; entries of nested dicts are named by their path, joined
    by ``"_"``. RGB images are ``<camera>_image``, uint8 [3, H, W]. ``success``, bool [1], is False
    after a reset. A success gives a reward of 1 and terminates the episode; other rewards are 0.

    With ``interventions`` a step also has ``intervention``, bool [1], whether somebody else acted
    in place of the policy, and ``executed_action``, float [A], in the environment's bounds; after a
    reset these are False and the middle of the bounds.

    Args:
        env: environment with a ``Box`` action space of finite bounds, to which actions are clipped.
        success: rule of success.
        proprio: low-dimensional entries that make up ``proprio``; none if empty.
        cameras: images to observe: RGB entries of the observation, or ``"render"``.
        image_size: height and width of the images in pixels.
        interventions: the environment reports interventions, see
            :func:`~ibrl_torchrl.envs.interventions.intervening_action`. Default False.

    Attributes:
        state_parts: names and sizes of the low-dimensional entries, in order.

    Raises:
        UsageError: an entry or a camera is unknown, or the action space is not supported.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        success: SuccessRule,
        *,
        proprio: Sequence[str] = (),
        cameras: Sequence[str] = (),
        image_size: int = 96,
        interventions: bool = False,
    ) -> None:
        super().__init__(env)
        self._bounds = _bounds(env.action_space)
        entries = _entries(env.observation_space)
        self._images = {name: space for name, space in entries.items() if _is_image(space)}
        self._low_dim = {name: s for name, s in entries.items() if name not in self._images}
        try:
            self.state_parts = {name: spaces.flatdim(s) for name, s in self._low_dim.items()}
        except (NotImplementedError, ValueError) as error:  # text, graphs, sequences
            raise UsageError(
                f"an entry of the observation has no fixed size ({brief(error)}); leave it out "
                "by gymnasium.wrappers.FilterObservation"
            ) from error
        for name in proprio:
            if name not in self.state_parts:
                raise unknown_name("entry of the observation in task.proprio", name, self._low_dim)
        self._success = success
        self._proprio = [*proprio]
        self._cameras = [*cameras]
        self._size = image_size
        self._interventions = interventions
        self._steps = 0
        self._raw: Mapping[str, Any] = {}
        for camera in cameras:
            self._require_camera(camera)
        self.observation_space = self._space()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Reset to an initial state, that of ``seed`` if there is one."""
        self._steps = 0
        raw, info = self.env.reset(seed=seed, options=options)
        low, high = self._bounds
        observation = self._observation(raw, success=False)
        return observation | self._report(np.add(low, high) / 2, intervention=False), info

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Take a step.

        Raises:
            NotFinite: the state is NaN or inf.
            UsageError: the environment does not report success as the rule expects it, or reports
                an intervention that is invalid or was not announced.
        """
        if not np.isfinite(action).all():
            raise ValueError(f"action must be finite, found {action.tolist()}")
        low, high = self._bounds
        self._steps += 1
        # Scaling to the bounds may exceed them by a rounding error.
        clipped = np.clip(action, low, high).astype(low.dtype)
        raw, reward, terminated, truncated, info = self.env.step(clipped)
        override = intervening_action(info, len(clipped))
        if override is not None and not self._interventions:
            raise UsageError(
                "a step's info reports an intervention and the first step's did not; set "
                "task.kwargs.interventions=true"
            )
        executed = clipped if override is None else np.clip(override, low, high)
        success = self._success(float(reward), bool(terminated), info)
        ended = success or bool(terminated)
        return (
            self._observation(raw, success=success)
            | self._report(executed, intervention=override is not None),
            float(success),
            ended,
            bool(truncated) and not ended,
            info,
        )

    def image(self, camera: str, size: int) -> np.ndarray:
        """Image of a camera, uint8 [H, W, 3], in the present state.

        Raises:
            UsageError: there is no such camera, or the environment cannot render.
        """
        self._require_camera(camera)
        array = np.asarray(self._rendered() if camera == RENDER else self._raw[camera], np.uint8)
        if array.shape[-1] != 3:
            array = array.transpose(1, 2, 0)
        if array.shape[:2] == (size, size):
            return array
        return np.asarray(Image.fromarray(array).resize((size, size), Image.Resampling.BOX))

    def _rendered(self) -> Any:
        try:
            return self.env.render()
        except Exception as error:  # of the library that draws, such as one that is missing
            raise UsageError(f"camera {RENDER!r}: {brief(error, 200)}") from error

    def _require_camera(self, camera: str) -> None:
        if camera not in self._images and camera != RENDER:
            raise unknown_name("camera", camera, [*self._images, RENDER])
        if camera == RENDER and self.env.render_mode != "rgb_array":
            raise UsageError(
                f"camera {RENDER!r}: render_mode of the environment is {self.env.render_mode}, not "
                "rgb_array; give it one, or choose a camera of its observations"
            )

    def _space(self) -> spaces.Dict:
        entries: dict[str, spaces.Space] = {SUCCESS: spaces.Box(0, 1, (1,), np.bool_)}
        if self.state_parts:
            entries[STATE_ENTRY] = _unbounded(sum(self.state_parts.values()))
        if self._proprio:
            entries[PROPRIO] = _unbounded(sum(self.state_parts[name] for name in self._proprio))
        shape = 3, self._size, self._size
        for camera in self._cameras:
            entries[image_key(camera)] = spaces.Box(0, 255, shape, np.uint8)
        if self._interventions:
            entries[INTERVENTION] = spaces.Box(0, 1, (1,), np.bool_)
            entries[EXECUTED_ACTION] = spaces.Box(*self._bounds, dtype=self._bounds[0].dtype)
        return spaces.Dict(entries)

    def _report(self, executed: np.ndarray, *, intervention: bool) -> dict[str, np.ndarray]:
        """Entries of an observation on who acted; none if the environment does not report it."""
        if not self._interventions:
            return {}
        action = executed.astype(self._bounds[0].dtype)
        return {INTERVENTION: np.array([intervention]), EXECUTED_ACTION: action}

    def _observation(self, raw: Any, *, success: bool) -> dict[str, np.ndarray]:
        self._raw = _named(raw)
        parts = {
            name: np.asarray(spaces.flatten(space, self._raw[name]), np.float32)
            for name, space in self._low_dim.items()
        }
        entries = {SUCCESS: np.array([success])}
        if parts:
            entries[STATE_ENTRY] = np.concatenate([*parts.values()])
            require_finite(STATE, entries[STATE_ENTRY], self._steps)
        if self._proprio:
            entries[PROPRIO] = np.concatenate([parts[name] for name in self._proprio])
        for camera in self._cameras:
            image = self.image(camera, self._size)
            entries[image_key(camera)] = np.ascontiguousarray(image.transpose(2, 0, 1))
        return entries


def _bounds(space: spaces.Space) -> tuple[np.ndarray, np.ndarray]:
    """Bounds [A] of the actions.

    Raises:
        UsageError: the actions are no vector of real numbers within finite bounds.
    """
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise UsageError(
            f"its actions are {brief(space)}, and policies choose vectors of real numbers; choose "
            "an environment with a Box action space, or wrap it in one"
        )
    if len(space.shape) != 1:
        raise UsageError(
            f"its actions have shape {list(space.shape)}, must be vectors; flatten them by "
            "gymnasium.wrappers.TransformAction"
        )
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise UsageError(
            f"its actions are unbounded, {brief(space)}; give them finite bounds by "
            "gymnasium.wrappers.TransformAction"
        )
    return space.low, space.high


def _entries(space: spaces.Space, prefix: str = "") -> dict[str, spaces.Space]:
    """Spaces that are no dicts, by their path; a space alone is named ``observation``."""
    if not isinstance(space, spaces.Dict):
        return {prefix or STATE_ENTRY: space}
    entries: dict[str, spaces.Space] = {}
    for name, each in space.items():
        entries |= _entries(each, f"{prefix}_{name}" if prefix else name)
    return entries


def _named(observation: Any, prefix: str = "") -> dict[str, Any]:
    """Values of an observation by the names of :func:`_entries`."""
    if not isinstance(observation, Mapping):
        return {prefix or STATE_ENTRY: observation}
    values: dict[str, Any] = {}
    for name, each in observation.items():
        values |= _named(each, f"{prefix}_{name}" if prefix else name)
    return values


def _is_image(space: spaces.Space) -> bool:
    """Whether a space has RGB images, [H, W, 3] or [3, H, W]."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8:
        return False
    return len(space.shape) == 3 and 3 in (space.shape[0], space.shape[-1])


def _unbounded(size: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (size,), np.float32)
