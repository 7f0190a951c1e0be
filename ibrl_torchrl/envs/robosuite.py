"""TorchRL environments of robosuite 1.5's manipulation tasks."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import torch
from tensordict import TensorDict

from ibrl_torchrl.envs.base import SparseRewardEnv
from ibrl_torchrl.envs.env_args import ROBOSUITE, is_before_1_5
from ibrl_torchrl.errors import require_extra, unknown_name
from ibrl_torchrl.keys import PROPRIO, STATE

if TYPE_CHECKING:
    import mujoco

# Sensors of an arm's proprioception.
_PROPRIO = re.compile(r"robot\d+_(\w+_)?(eef_pos|eef_quat|gripper_qpos)")
# robosuite randomises some models when they are created (the cube size of Lift). With one seed for
# all models, an initial state depends on the environment's seed alone.
_MODEL_SEED = 0


class RobosuiteEnv(SparseRewardEnv):
    """robosuite task with a sparse reward, see :class:`SparseRewardEnv`.

    Panda arms are controlled by position and rotation deltas at 20 Hz: an action of 1 is a delta
    of 5 cm or 0.5 rad (robosuite's OSC_POSE, as in robomimic's datasets).

    ===========  ============================================================
    key          content
    ===========  ============================================================
    ``state``    ``proprio``, then robosuite's object state; size 19 for Lift, 23 for
                 PickPlaceCan and NutAssemblySquare; ``state_parts`` has the names
                 and sizes of its parts
    ``proprio``  per arm 9: end effector xyz in metres and quaternion xyzw, positions
                 of the 2 fingers in metres
    ``action``   per arm 7: displacement xyz, rotation vector, gripper (1 closes)
    ===========  ============================================================

    Observations are functions of the simulator state alone: all sensors are read after the last
    physics step of a control step. (In robosuite itself they lag by one physics step, and object
    poses relative to the end effector by a control step.)

    Args:
        task: robosuite's name of the task: ``"Lift"``, ``"PickPlaceCan"``,
            ``"NutAssemblySquare"``, ``"TwoArmTransport"``, ``"ToolHang"``, or any other.
        action_repeat: control steps per action, default 1.
        horizon: environment steps per episode, default 200.
        seed: seed of the initial states; default None, entropy of the operating system. The global
            random states of NumPy and PyTorch are neither read nor changed.
        cameras: names of the cameras to render: ``"agentview"``, ``"robot0_eye_in_hand"``,
            ``"frontview"``, ``"birdview"``, ... Default none.
        image_size: height and width of the images in pixels, default 96 (paper).
        render_quality: ``"fast"`` (default), ``"shadows"`` or ``"full"``, see ``CameraRenderer``.
        settings: further arguments of ``robosuite.make``, such as ``robots`` or
            ``controller_configs``, for example a dataset's ``env_kwargs``.
        device: device of the tensors; the simulator itself runs on the CPU.

    Raises:
        UsageError: ``task``, a camera or the quality is unknown, robosuite is not installed, or
            no OpenGL backend is available.
        ValueError: ``action_repeat``, ``horizon`` or ``image_size`` is below 1.

    Examples:
        >>> env = RobosuiteEnv("Lift", seed=0)
        >>> env.rollout(3)["state"].shape
        torch.Size([3, 19])
    """

    default_camera = "frontview"  # arm, table and objects; agentview lacks the arm
    hidden_groups = (0,)  # collision geoms

    def __init__(
        self,
        task: str,
        *,
        action_repeat: int = 1,
        horizon: int = 200,
        seed: int | None = None,
        cameras: Sequence[str] = (),
        image_size: int = 96,
        render_quality: str = "fast",
        settings: Mapping[str, Any] | None = None,
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
        robosuite = _import_robosuite()
        from ibrl_torchrl.envs.robosuite_control import FastOSC

        if task not in robosuite.ALL_ENVIRONMENTS:
            raise unknown_name("robosuite task", task, robosuite.ALL_ENVIRONMENTS)
        self.task = task
        self._settings = {
            "robots": ["Panda"] * (2 if task.startswith("TwoArm") else 1),
            "controller_configs": _world_frame_osc(robosuite),
            "control_freq": 20,
            **(settings or {}),
        }
        self._simulator = robosuite.make(
            task,
            **self._settings,
            has_renderer=False,
            has_offscreen_renderer=False,
            renderer="mujoco",
            use_camera_obs=False,
            reward_shaping=False,
            ignore_done=True,
            hard_reset=False,  # 4 ms instead of 700 ms, with the same physics
            lite_physics=True,
            seed=_MODEL_SEED,
        )
        # Patch the instance only: other code may use robosuite's classes. Observations are read
        # in `_low_dim_observation` instead.
        self._simulator._pre_action = FastOSC(self._simulator)
        self._simulator._update_observables = lambda force=False: None
        self._simulator._get_observations = lambda force_update=False: {}
        self._simulator.reset()
        # MuJoCo only keeps the XML of the model compiled last, which is still this one.
        self._model_xml: str = self._simulator.sim.model.get_xml()
        self.state_parts = {name: np.size(value) for name, value in self._read_sensors().items()}
        sizes = {key: len(values) for key, values in self._low_dim_observation().items()}
        self._init_specs(sizes, self._simulator.action_dim, seed)

    @property
    def _simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        return self._simulator.sim.model._model, self._simulator.sim.data._data

    @property
    def env_args(self) -> dict[str, Any]:
        """Environment metadata in the layout of robomimic's datasets, JSON-serialisable.

        ``make_env_like(args)`` makes an equal environment, robomimic an ``EnvRobosuite``. Arguments
        of this class are under ``"ibrl_torchrl"``.
        """
        return {
            "env_name": self.task,
            "env_version": version("robosuite"),
            "type": ROBOSUITE,
            "env_kwargs": self._settings,
            "state_parts": self.state_parts,
            "ibrl_torchrl": {
                "action_repeat": self.action_repeat,
                "horizon": self.horizon,
                **(self._rendering if self._obs_renderer else {}),
            },
        }

    def close(self, **kwargs: Any) -> None:
        """Release the simulation and the renderers."""
        super().close(**kwargs)
        self._simulator.close()
        # The controller's NumPy views would keep the simulation in memory.
        self._simulator.__dict__.pop("_pre_action", None)

    def _set_seed(self, seed: int | None) -> None:
        # The samplers of initial states share this generator object.
        self._simulator.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state

    def _begin_episode(self) -> None:
        self._simulator.reset()

    def _step_simulator(self, action: np.ndarray) -> bool:
        import mujoco

        self._simulator.step(action)
        # After a physics step, joint positions are up to date and body poses are not. A full
        # forward pass would update them, too, but change the solver's warm start.
        model, data = self._simulation
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        return self._is_solved()

    def _is_solved(self) -> bool:
        return bool(self._simulator._check_success())

    def _low_dim_observation(self) -> dict[str, np.ndarray]:
        values = self._read_sensors()
        proprio = [value for name, value in values.items() if _PROPRIO.fullmatch(name)]
        return {
            STATE: np.hstack([*values.values()]).astype(np.float32),
            PROPRIO: np.hstack(proprio).astype(np.float32),
        }

    def _read_sensors(self) -> dict[str, np.ndarray]:
        """Values of the proprioceptive sensors, then of the object sensors, by name."""
        observables = self._simulator._observables
        values: dict[str, np.ndarray] = {}
        # Some sensors depend on values of later ones, hence the second pass.
        for _ in range(2):
            for name, observable in observables.items():
                if observable.modality == "object" or _PROPRIO.fullmatch(name):
                    values[name] = observable._sensor(values)
        proprio = {name: value for name, value in values.items() if _PROPRIO.fullmatch(name)}
        objects = {
            name: values[name]
            for name, observable in observables.items()
            if observable.modality == "object" and observable.is_active()
        }
        return proprio | objects

    @property
    def model_xml(self) -> str:
        """MuJoCo XML of the model, which robomimic's datasets store with each demonstration."""
        return self._model_xml

    def load_model(self, xml: str, version: str = "1.5") -> None:
        """Replace the model by another one of the same task; a reset has to follow.

        Demonstrations store their model because robosuite randomises it: the cube size of Lift.

        Args:
            xml: MuJoCo XML as in :attr:`model_xml`, from this machine or another.
            version: version of robosuite that wrote it, default 1.5. Models of 1.4 and earlier are
                incompatible with 1.5; only the sizes of their objects are copied.

        Raises:
            ValueError: MuJoCo cannot compile the model, or it belongs to another task.
        """
        if xml == self._model_xml:
            return
        if is_before_1_5({"env_version": version}):
            self._resize_objects(xml)
            return
        simulator = self._simulator
        self._check_model(xml)
        # robosuite connects its sensors to the new simulation only in hard resets.
        simulator.hard_reset = True
        simulator.reset_from_xml_string(xml)
        simulator.hard_reset = False
        self._model_xml = xml
        self._create_renderer()

    def _check_model(self, xml: str) -> None:
        """Raise ValueError unless this is a model of the task."""
        import mujoco

        try:
            model = mujoco.MjModel.from_xml_string(self._simulator.edit_model_xml(xml))
        except Exception as error:  # the XML parser and MuJoCo raise different types
            reason = " ".join(str(error).split())
            raise ValueError(f"not a model for robosuite 1.5: {reason}") from error
        current, _ = self._simulation
        sizes = model.nq, model.nv, model.nu
        expected = current.nq, current.nv, current.nu
        if sizes != expected:
            raise ValueError(f"a model of {self.task} has sizes {expected}, found {sizes}")

    def _resize_objects(self, xml: str) -> None:
        """Copy the sizes of boxes with a free joint from another model."""
        model, _ = self._simulation
        names = {model.geom(index).name for index in range(model.ngeom)}
        for body in ElementTree.fromstring(xml).iter("body"):
            if body.find("joint[@type='free']") is None and body.find("freejoint") is None:
                continue
            for geom in body.iter("geom"):
                if geom.get("type") == "box" and geom.get("name") in names:
                    size = [float(number) for number in geom.get("size", "").split()]
                    model.geom(geom.get("name")).size[:] = size

    def simulator_state(self) -> np.ndarray:
        """Simulator state in the layout of robomimic's datasets; requires a reset.

        Returns:
            float64 [1 + nq + nv]: time in seconds, qpos, qvel.
        """
        return self._simulator.sim.get_state().flatten()

    def set_simulator_state(self, state: np.ndarray) -> TensorDict:
        """Restore a simulator state of any environment of the same task.

        Observations are restored within 1e-6. From the initial state of an episode the same actions
        lead to the same observations within 1e-4; from later states differences are larger, since
        robosuite's controllers have memory that is not part of the state. Neither is the choice
        among several objects, as in ``"PickPlaceSingle"``. The random generator of later resets is
        not affected.

        Args:
            state: float64 [1 + nq + nv] from :meth:`simulator_state` or a robomimic dataset.

        Returns:
            Observation of that state, with the entries of :meth:`reset` and its ``success``.

        Raises:
            ValueError: ``state`` does not have the task's size.
        """
        simulator, (model, _) = self._simulator, self._simulation
        if np.shape(state) != (1 + model.nq + model.nv,):
            raise ValueError(
                f"a simulator state of {self.task} has shape {(1 + model.nq + model.nv,)}, "
                f"found {np.shape(state)}"
            )
        simulator.deterministic_reset = True  # without random draws
        simulator.reset()
        simulator.deterministic_reset = False
        simulator.sim.set_state_from_flattened(np.array(state, dtype=np.float64))
        simulator.sim.forward()
        for robot in simulator.robots:
            for arm in robot.arms:
                controller = robot.part_controllers[arm]
                controller.update_initial_joints(simulator.sim.data.qpos[controller.qpos_index])
        seconds = float(state[0])
        self._elapsed = round(seconds * simulator.control_freq / self.action_repeat)
        return self._complete_done(
            self.full_done_spec, self._observation_tensordict(self._is_solved())
        )


def _import_robosuite() -> ModuleType:
    """Import robosuite without its log messages and without its change of ``MUJOCO_GL``."""
    backend, disabled = os.environ.get("MUJOCO_GL"), logging.root.manager.disable
    logging.disable(max(disabled, logging.WARNING))
    try:
        module = require_extra("robosuite", "robosuite")
    finally:
        logging.disable(disabled)
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
    if backend is None:
        os.environ.pop("MUJOCO_GL", None)
    else:
        os.environ["MUJOCO_GL"] = backend
    return module


def _world_frame_osc(robosuite: ModuleType) -> dict[str, Any]:
    """Configuration of operational space control (OSC) by deltas in the world frame."""
    config = robosuite.load_composite_controller_config(controller="BASIC")
    arm = config["body_parts"]["right"] | {"input_ref_frame": "world"}
    return {**config, "body_parts": {"right": arm}}
