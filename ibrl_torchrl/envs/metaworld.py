"""TorchRL environments of the 50 Meta-World v3 manipulation tasks."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tensordict import TensorDict

from ibrl_torchrl.envs.base import SparseRewardEnv
from ibrl_torchrl.errors import require_extra, unknown_name
from ibrl_torchrl.keys import PROPRIO, STATE

if TYPE_CHECKING:
    import mujoco

ACTION_SIZE = 4  # hand displacement xyz, gripper effort
# One frame of Meta-World's observation; an observation consists of two frames and the goal.
_FRAME = {
    "hand_pos": 3,
    "gripper_opening": 1,
    "object1_pos": 3,
    "object1_quat": 4,
    "object2_pos": 3,
    "object2_quat": 4,
}
_PARTS = {**_FRAME, **{f"previous_{name}": size for name, size in _FRAME.items()}, "goal_pos": 3}
FRAME_SIZE = sum(_FRAME.values())
PROPRIO_SIZE = 4  # hand xyz, gripper opening: the first entries of a frame
# Viewpoint of the paper and of MoDem; other cameras keep Meta-World's positions.
CAMERA_POSITIONS = {"corner2": (0.75, 0.075, 0.7)}


class MetaWorldEnv(SparseRewardEnv):
    """Meta-World v3 task with a sparse reward, see :class:`SparseRewardEnv`.

    A simulator step takes 12.5 ms.

    ===========  ====  ============================================================
    key          size  content
    ===========  ====  ============================================================
    ``state``    39    current frame (18), previous frame (18), goal xyz in metres;
                       ``state_parts`` has the names and sizes of its parts
    ``proprio``  4     hand xyz in metres, gripper opening in [0, 1]
    ``action``   4     hand displacement xyz, gripper effort, in [-1, 1]
    ===========  ====  ============================================================

    The goal's marker is visible in the images.

    Args:
        task: name of the task, ``"box-close"`` or ``"box-close-v3"``.
        action_repeat: simulator steps per action, default 2 (paper).
        horizon: environment steps per episode, default 100.
        seed: seed of the initial states; default None, entropy of the operating system. The global
            random states of NumPy and PyTorch are neither read nor changed.
        cameras: names of the cameras to render: ``"corner2"`` (paper: moved to
            (0.75, 0.075, 0.7)), ``"topview"``, ``"corner"``, ``"corner3"``, ``"corner4"``,
            ``"behindGripper"``, ``"gripperPOV"``. Default none.
        image_size: height and width of the images in pixels, default 96 (paper).
        render_quality: ``"fast"`` (default), ``"shadows"`` or ``"full"``, see ``CameraRenderer``.
        device: device of the tensors; the simulator itself runs on the CPU.

    Raises:
        UsageError: ``task``, a camera or the quality is unknown, metaworld is not installed, or
            no OpenGL backend is available.
        ValueError: ``action_repeat``, ``horizon`` or ``image_size`` is below 1, or the product of
            the first two exceeds Meta-World's limit of 500 simulator steps.

    Examples:
        >>> env = MetaWorldEnv("box-close", seed=0)
        >>> env.rollout(3)["next", "reward"].shape
        torch.Size([3, 1])
    """

    state_parts = _PARTS
    default_camera = "corner2"

    def __init__(
        self,
        task: str,
        *,
        action_repeat: int = 2,
        horizon: int = 100,
        seed: int | None = None,
        cameras: Sequence[str] = (),
        image_size: int = 96,
        render_quality: str = "fast",
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(
            action_repeat=action_repeat,
            horizon=horizon,
            cameras=cameras,
            image_size=image_size,
            render_quality=render_quality,
            device=device,
        )
        tasks = require_extra("metaworld", "metaworld").ALL_V3_ENVIRONMENTS
        self.task = f"{task.removesuffix('-v3')}-v3"
        if self.task not in tasks:
            raise unknown_name("Meta-World task", task, tasks)
        self._simulator = tasks[self.task]()

        limit = self._simulator.max_path_length
        if action_repeat * horizon > limit:
            raise ValueError(
                f"action_repeat={action_repeat} and horizon={horizon} must have a product at most "
                f"{limit}, where Meta-World ends an episode"
            )

        # By default Meta-World hides the goal; it also clips observations to a space that it has
        # already cached with the goal hidden.
        self._simulator._partially_observable = False
        self._simulator.__dict__.pop("sawyer_observation_space", None)
        # Draw goals from the simulator's generator instead of NumPy's global one.
        self._simulator.seeded_rand_vec = True
        self._simulator._set_task_called = True

        for camera, position in CAMERA_POSITIONS.items():
            self._simulator.model.camera(camera).pos[:] = position
        self._init_specs({STATE: sum(_PARTS.values()), PROPRIO: PROPRIO_SIZE}, ACTION_SIZE, seed)

    @property
    def _simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        return self._simulator.model, self._simulator.data

    @property
    def env_args(self) -> dict[str, Any]:
        """Environment metadata in the layout of robomimic's datasets, JSON-serialisable.

        ``make_env_like(args)`` makes an equal environment.
        """
        return {
            "env_name": self.task,
            "env_version": version("metaworld"),
            "type": "metaworld",
            "env_kwargs": {
                "action_repeat": self.action_repeat,
                "horizon": self.horizon,
                **(self._rendering if self._obs_renderer else {}),
            },
        }

    def _set_seed(self, seed: int | None) -> None:
        self._simulator.np_random = np.random.default_rng(seed)

    def _step_simulator(self, action: np.ndarray) -> bool:
        self._raw_state, _, _, _, info = self._simulator.step(action)
        return bool(info["success"])

    def _low_dim_observation(self) -> dict[str, np.ndarray]:
        state = self._raw_state.astype(np.float32)
        return {STATE: state, PROPRIO: state[:PROPRIO_SIZE].copy()}

    def _begin_episode(self, layout: np.ndarray | None = None) -> None:
        """Reset robot, objects and goal.

        Args:
            layout: object and goal positions of an earlier reset (Meta-World's ``_last_rand_vec``);
                None draws new ones.
        """
        import mujoco

        simulator = self._simulator
        if layout is not None:
            simulator._last_rand_vec = layout
        # Tasks read body positions, which are stale until the simulator has run with the bodies at
        # their new positions. Like Meta-World, reset twice; unlike it, repeat the same draw the
        # second time, and clear the previous episode's data first.
        for draw in (layout is None, False):
            simulator._freeze_rand_vec = not draw
            mujoco.mj_resetData(simulator.model, simulator.data)
            simulator.reset_model()
        # window-close moves its window at the end of its reset. Without a forward pass the first
        # observation has it 20 cm off; a step with a zero action would advance the time.
        mujoco.mj_forward(simulator.model, simulator.data)
        simulator.curr_path_length = 0
        frame = simulator._get_curr_obs_combined_no_goal()
        self._update_raw_state(previous_frame=frame)

    def _update_raw_state(self, previous_frame: np.ndarray) -> None:
        simulator = self._simulator
        simulator._prev_obs = previous_frame
        space = simulator.sawyer_observation_space
        self._raw_state = np.clip(simulator._get_obs(), space.low, space.high)

    def simulator_state(self) -> np.ndarray:
        """Simulator state for :meth:`set_simulator_state`; requires a reset.

        Returns:
            float64 [n]: time, qpos and qvel, as in robomimic's datasets; the rest of MuJoCo's
            state; the previous frame; the number of steps in this episode; and the random vector
            of object and goal positions. ``n`` depends on the task only.
        """
        import mujoco

        simulator = self._simulator
        signature = _physics_signature()
        physics = np.empty(mujoco.mj_stateSize(simulator.model, signature))
        mujoco.mj_getState(simulator.model, simulator.data, physics, signature)
        previous_frame = self._raw_state[FRAME_SIZE : 2 * FRAME_SIZE]
        return np.concatenate([physics, previous_frame, [self._elapsed], simulator._last_rand_vec])

    def set_simulator_state(self, state: np.ndarray) -> TensorDict:
        """Restore a simulator state of any environment of the same task and action repeat.

        The same actions then lead to bit-identical observations on the same machine. The random
        generator of later resets is not affected.

        Args:
            state: float64 [n] from :meth:`simulator_state`.

        Returns:
            Observation of that state, with the entries of :meth:`reset`.

        Raises:
            ValueError: ``state`` does not have the task's size.
        """
        import mujoco

        simulator = self._simulator
        signature = _physics_signature()
        physics_size = mujoco.mj_stateSize(simulator.model, signature)
        sizes = [physics_size, FRAME_SIZE, 1, simulator._random_reset_space.low.size]
        if np.shape(state) != (sum(sizes),):
            raise ValueError(
                f"a simulator state of {self.task} has shape {(sum(sizes),)}, "
                f"found {np.shape(state)}"
            )
        state = np.array(state, dtype=np.float64)
        physics, previous_frame, elapsed, layout = np.split(state, np.cumsum(sizes)[:-1])
        self._begin_episode(layout)
        mujoco.mj_setState(simulator.model, simulator.data, physics, signature)
        mujoco.mj_forward(simulator.model, simulator.data)
        # The solver's warm start is part of the state; mj_forward has overwritten it.
        mujoco.mj_setState(simulator.model, simulator.data, physics, signature)
        self._elapsed = int(elapsed.item())
        simulator.curr_path_length = self._elapsed * self.action_repeat
        self._update_raw_state(previous_frame)
        return self._complete_done(self.full_done_spec, self._observation_tensordict())


def _physics_signature() -> int:
    """Bit mask of the parts of MuJoCo's state that Meta-World changes."""
    from mujoco import mjtState

    return int(
        mjtState.mjSTATE_PHYSICS
        | mjtState.mjSTATE_TIME
        | mjtState.mjSTATE_WARMSTART
        | mjtState.mjSTATE_CTRL
        | mjtState.mjSTATE_MOCAP_POS
        | mjtState.mjSTATE_MOCAP_QUAT
    )
