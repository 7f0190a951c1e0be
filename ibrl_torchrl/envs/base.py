"""What the environments of all simulators have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from ibrl_torchrl.envs.rendering import CameraRig
from ibrl_torchrl.keys import (
    ACTION,
    DONE,
    PROPRIO,
    REWARD,
    STATE,
    SUCCESS,
    TERMINATED,
    TRUNCATED,
    image_key,
)

if TYPE_CHECKING:
    import mujoco


class SparseRewardEnv(EnvBase):
    """A manipulation task in MuJoCo that pays 1 at success and nothing else.

    An environment step applies its action, clipped to [-1, 1], for up to ``action_repeat`` steps of
    the simulator and stops at the first success. Success is read from the simulator at that
    instant; it pays a reward of 1 and terminates. The horizon truncates.

    ==============  =======  ====  ============================================================
    key             dtype    size  content
    ==============  =======  ====  ============================================================
    ``state``       float32  S     what the simulator tells of robot and objects
    ``proprio``     float32  P     what the robot feels of itself
    ``success``     bool     1     the task is solved; False after a reset
    ``action``      float32  A     each in [-1, 1]
    ``reward``      float32  1     1 at success, else 0
    ``terminated``  bool     1     success
    ``truncated``   bool     1     the horizon was reached without success
    ``done``        bool     1     either of the two
    ==============  =======  ====  ============================================================

    With ``cameras`` there is also ``<camera>_image``, uint8 [3, H, W] and right side up, for each.

    A subclass makes its simulator, calls :meth:`_prepare`, and has the abstract methods below.

    Args:
        action_repeat: simulator steps that one action is held for.
        horizon: environment steps of an episode.
        cameras: names of cameras to render at each step.
        image_size: height and width of the images in pixels.
        render_quality: ``"fast"``, ``"shadows"`` or ``"full"``, see ``CameraRig``.
        device: where the tensors live; the simulator itself runs on the CPU.

    Raises:
        ValueError: ``action_repeat`` or ``horizon`` is below 1.
    """

    state_parts: Mapping[str, int]  # names and sizes of what `state` consists of, in order
    default_camera: str  # of pictures for people
    hidden_groups: Sequence[int] = ()  # groups of geometry that images leave out
    model_xml: str | None = None  # what recordings keep of the model, where it varies

    def __init__(
        self,
        *,
        action_repeat: int,
        horizon: int,
        cameras: Sequence[str],
        image_size: int,
        render_quality: str,
        device: torch.device | str | None,
    ) -> None:
        super().__init__(device=device, batch_size=[])
        for name, value in {"action_repeat": action_repeat, "horizon": horizon}.items():
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        self.action_repeat = action_repeat
        self.horizon = horizon
        self._elapsed = 0
        self._reset_state: np.ndarray | None = None
        self._rendering = {
            "cameras": [*cameras],
            "image_size": image_size,
            "render_quality": render_quality,
        }
        self._picture_rigs: dict[tuple[str, int, str], CameraRig] = {}
        self._rig: CameraRig | None = None

    @property
    @abstractmethod
    def _simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """The simulation as MuJoCo has it."""

    @abstractmethod
    def _begin_episode(self) -> None:
        """Draw a start state."""

    @abstractmethod
    def _advance(self, action: np.ndarray) -> bool:
        """Take one step of the simulator and tell whether the task is solved."""

    @abstractmethod
    def _sense(self) -> dict[str, np.ndarray]:
        """``state`` and ``proprio``, float32, as they are now."""

    @property
    @abstractmethod
    def env_args(self) -> dict[str, Any]:
        """What rebuilds this environment, in the layout of robomimic's dataset metadata."""

    def _prepare(self, sizes: dict[str, int], action_size: int, seed: int | None) -> None:
        """Make cameras and specs, once there is a simulation; ``sizes`` are those of `_sense`."""
        self._make_rig()
        size = self._rendering["image_size"]
        image = Bounded(0, 255, shape=(3, size, size), dtype=torch.uint8)
        self.observation_spec = Composite(
            {
                STATE: Unbounded(sizes[STATE]),
                PROPRIO: Unbounded(sizes[PROPRIO]),
                SUCCESS: Categorical(2, shape=(1,), dtype=torch.bool),
                **{image_key(camera): image.clone() for camera in self._rendering["cameras"]},
            },
            device=self.device,
        )
        self.action_spec = Bounded(-1.0, 1.0, shape=(action_size,), device=self.device)
        self.reward_spec = Bounded(0.0, 1.0, shape=(1,), device=self.device)
        flag = Categorical(2, shape=(1,), dtype=torch.bool)
        self.done_spec = Composite(
            {DONE: flag, TERMINATED: flag.clone(), TRUNCATED: flag.clone()}, device=self.device
        )
        self.set_seed(seed)

    def _make_rig(self) -> None:
        """Make the cameras of observations, anew after the model has changed."""
        self._close_rigs()
        if self._rendering["cameras"]:
            self._rig = self._new_rig(*self._rendering.values())

    def _new_rig(self, cameras: Sequence[str], size: int, quality: str) -> CameraRig:
        model, _ = self._simulation
        return CameraRig(model, cameras, size, quality, hidden_groups=self.hidden_groups)

    def _close_rigs(self) -> None:
        for rig in [*self._picture_rigs.values(), *([self._rig] if self._rig else [])]:
            rig.close()
        self._picture_rigs.clear()
        self._rig = None

    def close(self, **kwargs: Any) -> None:
        """Free the renderers."""
        self._close_rigs()
        super().close(**kwargs)

    def _reset(self, tensordict: TensorDictBase | None = None, **_: Any) -> TensorDict:
        self._elapsed = 0
        self._begin_episode()
        state, self._reset_state = self._reset_state, None
        return self._observed() if state is None else self.set_simulator_state(state)

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        action = tensordict.get(ACTION).detach().cpu().numpy()
        if not np.isfinite(action).all():
            raise ValueError(f"action must be finite, found {action.tolist()}")
        action = action.clip(-1.0, 1.0)
        success = False
        for _ in range(self.action_repeat):
            success = self._advance(action)
            if success:
                break
        self._elapsed += 1
        truncated = not success and self._elapsed >= self.horizon
        return TensorDict(
            {
                **self._observation(success),
                REWARD: torch.tensor([float(success)]),
                TERMINATED: torch.tensor([success]),
                TRUNCATED: torch.tensor([truncated]),
                DONE: torch.tensor([success or truncated]),
            },
            batch_size=[],
            device=self.device,
        )

    def _observed(self, success: bool = False) -> TensorDict:
        """The observation of a state that no action has led to."""
        return TensorDict(self._observation(success), batch_size=[], device=self.device)

    def _observation(self, success: bool) -> dict[str, torch.Tensor]:
        _, data = self._simulation
        images = self._rig.render(data) if self._rig else {}
        return {
            **{key: torch.from_numpy(values) for key, values in self._sense().items()},
            SUCCESS: torch.tensor([success]),
            **{image_key(camera): image for camera, image in images.items()},
        }

    def render(
        self, camera: str | None = None, size: int = 384, quality: str = "full"
    ) -> np.ndarray:
        """What the simulation looks like now, for people; observations do not change by it.

        Args:
            camera: name of a camera, whether or not observations have images of it; None takes the
                suite's usual one.
            size: height and width in pixels.
            quality: ``"fast"``, ``"shadows"`` or ``"full"``, see ``CameraRig``.

        Returns:
            uint8 [H, W, 3], right side up.

        Raises:
            UsageError: the camera or the quality is unknown, or nothing here can render.
            ValueError: ``size`` is below 1.
        """
        key = (camera or self.default_camera, size, quality)
        if key not in self._picture_rigs:
            self._picture_rigs[key] = self._new_rig([key[0]], size, quality)
        image = self._picture_rigs[key].render(self._simulation[1])[key[0]]
        return image.permute(1, 2, 0).numpy()

    def load_model(self, xml: str, version: str) -> None:
        """Continue with another model of the same task, where a simulator has several.

        Args:
            xml: a recording's model.
            version: of the simulator that recorded it.
        """
        del xml, version

    @abstractmethod
    def simulator_state(self) -> np.ndarray:
        """Everything that :meth:`set_simulator_state` needs to go on from here; after a reset."""

    @abstractmethod
    def set_simulator_state(self, state: np.ndarray) -> TensorDict:
        """Continue from a state of any environment of the same task."""

    def set_reset_state(self, state: np.ndarray) -> None:
        """Let the next reset, and no other, continue from a simulator state.

        So transforms such as stacks begin there, too. The horizon counts from the episode's start.
        """
        self._reset_state = state

    def positions(self, state: np.ndarray) -> np.ndarray:
        """The positions of all joints and free bodies in a simulator state, float64 [nq]."""
        model, _ = self._simulation
        return state[1 : 1 + model.nq]
