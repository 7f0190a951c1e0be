"""The manipulation tasks of robosuite 1.5 as TorchRL environments."""

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

# What an arm feels of itself, in the order of the original code's states.
_PROPRIO = re.compile(r"robot\d+_(\w+_)?(eef_pos|eef_quat|gripper_qpos)")
# Every environment starts from one model (Lift draws its cube's size when a model is made), so
# that a seed alone fixes a start state.
_MODEL_SEED = 0


class RobosuiteEnv(SparseRewardEnv):
    """One robosuite task with a sparse reward, see :class:`SparseRewardEnv`.

    Panda arms follow position and rotation deltas at 20 Hz: an action of 1 asks for 5 cm or
    0.5 rad (robosuite's OSC_POSE, as in robomimic's data).

    ===========  ============================================================
    key          content
    ===========  ============================================================
    ``state``    ``proprio``, then robosuite's object state; 19 numbers for Lift,
                 23 for PickPlaceCan and NutAssemblySquare; ``state_parts`` names them
    ``proprio``  9 an arm: end effector xyz in metres and xyzw quaternion, positions
                 of the 2 fingers in metres
    ``action``   7 an arm: displacement xyz, rotation vector, gripper (1 closes)
    ===========  ============================================================

    Observations are functions of the simulator's state alone: all of them are read after the last
    physics step of a control step. (robosuite's own lag by one physics step, and where an object is
    seen from the end effector, by a whole control step.)

    Args:
        task: robosuite's name: ``"Lift"``, ``"PickPlaceCan"``, ``"NutAssemblySquare"``,
            ``"TwoArmTransport"``, ``"ToolHang"``, or any other.
        action_repeat: control steps that one action is held for.
        horizon: environment steps of an episode.
        seed: seed of the start states; None draws fresh entropy. The global random states of
            NumPy and PyTorch are neither read nor changed.
        cameras: names of cameras to render: ``"agentview"``, ``"robot0_eye_in_hand"``,
            ``"frontview"``, ``"birdview"``, ... Default none.
        image_size: height and width of the images in pixels, default 96 (paper).
        render_quality: ``"fast"`` (default), ``"shadows"`` or ``"full"``, see ``CameraRig``.
        settings: further arguments of ``robosuite.make``, such as ``robots`` or
            ``controller_configs``; what a dataset's ``env_kwargs`` say is set here.
        device: where the tensors live; the simulator itself runs on the CPU.

    Raises:
        UsageError: ``task``, a camera or the quality is unknown, robosuite is not installed, or
            nothing here can render.
        ValueError: ``action_repeat``, ``horizon`` or ``image_size`` is below 1.

    Examples:
        >>> env = RobosuiteEnv("Lift", seed=0)
        >>> env.rollout(3)["state"].shape
        torch.Size([3, 19])
    """

    default_camera = "agentview"
    hidden_groups = (0,)  # shapes that collide

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
        robosuite = _robosuite()
        from ibrl_torchrl.envs.robosuite_control import FastOSC

        if task not in robosuite.ALL_ENVIRONMENTS:
            raise unknown_name("robosuite task", task, robosuite.ALL_ENVIRONMENTS)
        self.task = task
        self._settings = {
            "robots": ["Panda"] * (2 if task.startswith("TwoArm") else 1),
            "controller_configs": _deltas(robosuite),
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
            hard_reset=False,  # 4 ms instead of 700, and the same physics
            lite_physics=True,
            seed=_MODEL_SEED,
        )
        # Of one instance, not of classes that others use, too. Observations are read by `_sense`.
        self._simulator._pre_action = FastOSC(self._simulator)
        self._simulator._update_observables = lambda force=False: None
        self._simulator._get_observations = lambda force_update=False: {}
        self._simulator.reset()
        # MuJoCo only knows the text of the model it made last, which is still ours.
        self._model_xml: str = self._simulator.sim.model.get_xml()
        self.state_parts = {name: np.size(value) for name, value in self._read_sensors().items()}
        sizes = {key: len(values) for key, values in self._sense().items()}
        self._prepare(sizes, self._simulator.action_dim, seed)

    @property
    def _simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        return self._simulator.sim.model._model, self._simulator.sim.data._data

    @property
    def env_args(self) -> dict[str, Any]:
        """What rebuilds this environment, in the layout of robomimic's dataset metadata.

        ``make_env_like(args)`` makes another one, robomimic a ``EnvRobosuite``. Arguments of this
        class are under ``"ibrl_torchrl"``.
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
                **(self._rendering if self._rig else {}),
            },
        }

    def close(self, **kwargs: Any) -> None:
        """Free the simulation and the renderers."""
        super().close(**kwargs)
        self._simulator.close()
        # Its views would keep the simulation in memory.
        self._simulator.__dict__.pop("_pre_action", None)

    def _set_seed(self, seed: int | None) -> None:
        # The samplers of start states hold this very generator.
        self._simulator.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state

    def _begin_episode(self) -> None:
        self._simulator.reset()

    def _advance(self, action: np.ndarray) -> bool:
        import mujoco

        self._simulator.step(action)
        # After a physics step, joints have moved and bodies have not. A full forward pass would
        # put them right, too, but also change what the solver starts from.
        model, data = self._simulation
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        return self._is_solved()

    def _is_solved(self) -> bool:
        return bool(self._simulator._check_success())

    def _sense(self) -> dict[str, np.ndarray]:
        values = self._read_sensors()
        proprio = [value for name, value in values.items() if _PROPRIO.fullmatch(name)]
        return {
            STATE: np.hstack([*values.values()]).astype(np.float32),
            PROPRIO: np.hstack(proprio).astype(np.float32),
        }

    def _read_sensors(self) -> dict[str, np.ndarray]:
        """What arms feel, then what there is of objects, by robosuite's names."""
        observables = self._simulator._observables
        values: dict[str, np.ndarray] = {}
        # Some sensors read values of others that come after them, hence the second time.
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
        """The model in MuJoCo's XML, as robomimic's files keep it beside each demonstration."""
        return self._model_xml

    def load_model(self, xml: str, version: str = "1.5") -> None:
        """Continue with another model of the same task; a reset has to follow.

        Recordings keep their model because robosuite varies it: the size of Lift's cube.

        Args:
            xml: as :attr:`model_xml` gives it, on this machine or another.
            version: of robosuite that wrote it. Models of 1.4 and earlier do not fit 1.5; of them,
                the sizes of objects are taken.

        Raises:
            ValueError: MuJoCo cannot make a model of it, or it is one of another task.
        """
        if xml == self._model_xml:
            return
        if is_before_1_5({"env_version": version}):
            self._resize_objects(xml)
            return
        simulator = self._simulator
        self._require_fitting(xml)
        # Only with hard resets does robosuite tell its sensors of a new simulation.
        simulator.hard_reset = True
        simulator.reset_from_xml_string(xml)
        simulator.hard_reset = False
        self._model_xml = xml
        self._make_rig()

    def _require_fitting(self, xml: str) -> None:
        import mujoco

        try:
            model = mujoco.MjModel.from_xml_string(self._simulator.edit_model_xml(xml))
        except Exception as error:  # XML and MuJoCo each have their own
            reason = " ".join(str(error).split())
            raise ValueError(f"not a model for robosuite 1.5: {reason}") from error
        own, _ = self._simulation
        found, expected = (model.nq, model.nv, model.nu), (own.nq, own.nv, own.nu)
        if found != expected:
            raise ValueError(f"a model of {self.task} has sizes {expected}, found {found}")

    def _resize_objects(self, xml: str) -> None:
        """Take the sizes of boxes that move freely from another model."""
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
        """The state as robomimic's files have it; after a reset.

        Returns:
            float64 [1 + nq + nv]: time in seconds, qpos, qvel.
        """
        return self._simulator.sim.get_state().flatten()

    def set_simulator_state(self, state: np.ndarray) -> TensorDict:
        """Continue from a state of any environment of the same task.

        Observations there are the same. The same actions lead to the same observations, within
        1e-4, from the first state of an episode; from others they do not quite, since robosuite's
        controllers remember more than a state holds. Nor does a state tell which of several objects
        a task has drawn, such as ``"PickPlaceSingle"``. The start states of later resets are left
        as they were.

        Args:
            state: float64 [1 + nq + nv] from :meth:`simulator_state` or a robomimic file.

        Returns:
            The observation there, as :meth:`reset` returns it, and whether it is a success.

        Raises:
            ValueError: ``state`` has another size than this task's.
        """
        simulator, (model, _) = self._simulator, self._simulation
        if np.shape(state) != (1 + model.nq + model.nv,):
            raise ValueError(
                f"a simulator state of {self.task} has shape {(1 + model.nq + model.nv,)}, "
                f"found {np.shape(state)}"
            )
        simulator.deterministic_reset = True  # forget the last episode, draw nothing
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
        return self._complete_done(self.full_done_spec, self._observed(self._is_solved()))


def _robosuite() -> ModuleType:
    """robosuite, which on import logs what only its developers need and chooses a renderer."""
    before, disabled = os.environ.get("MUJOCO_GL"), logging.root.manager.disable
    logging.disable(max(disabled, logging.WARNING))
    try:
        module = require_extra("robosuite", "robosuite")
    finally:
        logging.disable(disabled)
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
    if before is None:
        os.environ.pop("MUJOCO_GL", None)
    else:
        os.environ["MUJOCO_GL"] = before
    return module


def _deltas(robosuite: ModuleType) -> dict[str, Any]:
    """Operational space control of arms by deltas in the world's frame."""
    config = robosuite.load_composite_controller_config(controller="BASIC")
    arm = config["body_parts"]["right"] | {"input_ref_frame": "world"}
    return {**config, "body_parts": {"right": arm}}
