"""Base class of the manipulation environments."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from ibrl_torchrl.envs.rendering import CameraRenderer
from ibrl_torchrl.errors import NotFinite
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


class _RenderSettings(TypedDict):
    cameras: list[str]
    image_size: int
    render_quality: str


def require_finite(key: str, values: np.ndarray, step: int) -> None:
    """Refuse a simulation that has become unstable.

    Args:
        key: key of the observation.
        values: its numbers, of any shape.
        step: environment steps since the start of the episode.

    Raises:
        NotFinite: a number is NaN or inf.
    """
    if not np.isfinite(values).all():
        raise NotFinite(
            f"{key} is not finite at step {step} of an episode; the simulation has become "
            "unstable: lower algo.exploration_noise or task.action_repeat"
        )


class SparseRewardEnv(EnvBase):
    """Base class of MuJoCo manipulation tasks with a sparse reward.

    An environment step clips its action to [-1, 1] and applies it for ``action_repeat`` simulator
    steps, or until the first success. Success is evaluated after every simulator step; it yields a
    reward of 1 and terminates the episode. The horizon truncates it.

    ==============  =======  ====  ============================================================
    key             dtype    size  content
    ==============  =======  ====  ============================================================
    ``state``       float32  S     low-dimensional observation of robot and objects
    ``proprio``     float32  P     proprioception of the robot
    ``success``     bool     1     whether the task is solved; False after a reset
    ``action``      float32  A     in [-1, 1]
    ``reward``      float32  1     1 at success, else 0
    ``terminated``  bool     1     success
    ``truncated``   bool     1     the horizon was reached without success
    ``done``        bool     1     ``terminated`` or ``truncated``
    ==============  =======  ====  ============================================================

    With ``cameras`` there is also ``<camera>_image`` per camera, uint8 [3, H, W], upright.

    A subclass creates its simulator, calls :meth:`_init_specs`, and implements the abstract
    methods.

    Args:
        action_repeat: simulator steps per action.
        horizon: environment steps per episode.
        cameras: names of the cameras to render at each step.
        image_size: height and width of the images in pixels.
        render_quality: ``"fast"``, ``"shadows"`` or ``"full"``, see ``CameraRenderer``.
        device: device of the tensors; the simulator itself runs on the CPU.

    Raises:
        ValueError: ``action_repeat`` or ``horizon`` is below 1.
    """

    state_parts: Mapping[str, int]  # names and sizes of the parts of `state`, in order
    default_camera: str  # of `render`
    hidden_groups: Sequence[int] = ()  # geom groups that are not rendered

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
        self._rendering: _RenderSettings = {
            "cameras": [*cameras],
            "image_size": image_size,
            "render_quality": render_quality,
        }
        self._obs_renderer: CameraRenderer | None = None
        self._view_renderers: dict[tuple[str, int, str], CameraRenderer] = {}  # of `render`

    @property
    def model_xml(self) -> str | None:
        """MuJoCo XML of the model; None if all environments of the task share one model."""
        return None

    @property
    @abstractmethod
    def _simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """MuJoCo model and data."""

    @abstractmethod
    def _begin_episode(self) -> None:
        """Reset the simulator to a random initial state."""

    @abstractmethod
    def _step_simulator(self, action: np.ndarray) -> bool:
        """Take one simulator step and return whether the task is solved."""

    @abstractmethod
    def _low_dim_observation(self) -> dict[str, np.ndarray]:
        """Current ``state`` [S] and ``proprio`` [P], float32."""

    @property
    @abstractmethod
    def env_args(self) -> dict[str, Any]:
        """Environment metadata in the layout of robomimic's datasets, JSON-serialisable."""

    def _init_specs(self, sizes: dict[str, int], action_size: int, seed: int | None) -> None:
        """Create renderer and specs and seed the environment, once the simulator exists.

        Args:
            sizes: sizes of ``state`` and ``proprio``.
            action_size: size of ``action``.
            seed: seed of the initial states.
        """
        self._create_renderer()
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

    def _create_renderer(self) -> None:
        """Create the renderer of the observations; repeat after a change of the model."""
        self._close_renderers()
        settings = self._rendering
        if settings["cameras"]:
            self._obs_renderer = self._new_renderer(
                settings["cameras"], settings["image_size"], settings["render_quality"]
            )

    def _new_renderer(self, cameras: Sequence[str], size: int, quality: str) -> CameraRenderer:
        model, _ = self._simulation
        return CameraRenderer(model, cameras, size, quality, hidden_groups=self.hidden_groups)

    def _close_renderers(self) -> None:
        obs_renderers = [self._obs_renderer] if self._obs_renderer else []
        for renderer in [*self._view_renderers.values(), *obs_renderers]:
            renderer.close()
        self._view_renderers.clear()
        self._obs_renderer = None

    def close(self, **kwargs: Any) -> None:
        """Release the renderers."""
        self._close_renderers()
        super().close(**kwargs)

    def _reset(self, tensordict: TensorDictBase | None = None, **_: Any) -> TensorDict:
        self._elapsed = 0
        self._begin_episode()
        state, self._reset_state = self._reset_state, None
        return self._observation_tensordict() if state is None else self.set_simulator_state(state)

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        action = tensordict.get(ACTION).detach().cpu().numpy()
        if not np.isfinite(action).all():
            raise ValueError(f"action must be finite, found {action.tolist()}")
        action = action.clip(-1.0, 1.0)
        success = False
        for _ in range(self.action_repeat):
            success = self._step_simulator(action)
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

    def _observation_tensordict(self, success: bool = False) -> TensorDict:
        return TensorDict(self._observation(success), batch_size=[], device=self.device)

    def _observation(self, success: bool) -> dict[str, torch.Tensor]:
        _, data = self._simulation
        images = self._obs_renderer.render(data) if self._obs_renderer else {}
        low_dim = self._low_dim_observation()
        return {
            **{key: torch.from_numpy(values) for key, values in low_dim.items()},
            SUCCESS: torch.tensor([success]),
            **{image_key(camera): image for camera, image in images.items()},
        }

    def render(
        self, camera: str | None = None, size: int = 384, quality: str = "full"
    ) -> np.ndarray:
        """Render an image for people; observations do not depend on it.

        Args:
            camera: name of a camera, with or without images in the observations; default None, the
                suite's ``default_camera``.
            size: height and width in pixels.
            quality: ``"fast"``, ``"shadows"`` or ``"full"``, see ``CameraRenderer``.

        Returns:
            RGB image, uint8 [H, W, 3], upright.

        Raises:
            UsageError: the camera or the quality is unknown, or no OpenGL backend is available.
            ValueError: ``size`` is below 1.
        """
        key = (camera or self.default_camera, size, quality)
        if key not in self._view_renderers:
            self._view_renderers[key] = self._new_renderer([key[0]], size, quality)
        image = self._view_renderers[key].render(self._simulation[1])[key[0]]
        return image.permute(1, 2, 0).numpy()

    def require_finite(self) -> None:
        """Refuse a simulation that has become unstable.

        Raises:
            NotFinite: the current observation has a value that is NaN or inf.
        """
        for key, values in self._low_dim_observation().items():
            require_finite(key, values, self._elapsed)

    def load_model(self, xml: str, version: str) -> None:
        """Replace the model by another one of the same task, in suites whose models vary.

        Args:
            xml: MuJoCo XML of the model, as stored with a demonstration.
            version: version of the simulator that stored it.
        """
        del xml, version

    @abstractmethod
    def simulator_state(self) -> np.ndarray:
        """Simulator state for :meth:`set_simulator_state`, float64 [n]; requires a reset."""

    @abstractmethod
    def set_simulator_state(self, state: np.ndarray) -> TensorDict:
        """Restore a simulator state of any environment of the same task."""

    def set_reset_state(self, state: np.ndarray) -> None:
        """Make the next reset restore a simulator state; later ones draw initial states again.

        Unlike :meth:`set_simulator_state`, this resets transforms such as ``CatFrames``, too. The
        step count of the state is restored, so the horizon includes the steps before it.

        Args:
            state: float64 [n] from :meth:`simulator_state`.
        """
        self._reset_state = state

    def positions(self, state: np.ndarray) -> np.ndarray:
        """Generalized positions ``qpos`` of a simulator state, float64 [nq]."""
        model, _ = self._simulation
        return state[1 : 1 + model.nq]
