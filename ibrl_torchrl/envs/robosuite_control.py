"""Fast operational space control (OSC) of robosuite's arms, bit-identical to robosuite's.

Imports robosuite at module level: import this module only where robosuite is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import mujoco
import numpy as np
from robosuite.controllers.composite.composite_controller import CompositeController
from robosuite.controllers.parts.arm.osc import OperationalSpaceController
from robosuite.controllers.parts.gripper.simple_grip import SimpleGripController
from robosuite.robots.fixed_base_robot import FixedBaseRobot
from robosuite.utils.control_utils import nullspace_torques, opspace_matrices, orientation_error

# Other versions may compute different torques; the tests compare them.
_IS_SUPPORTED_VERSION = version("robosuite") == "1.5.2"


class FastOSC:
    """Replacement of robosuite's ``_pre_action``, which sets the controls of each physics step.

    A control step has 25 physics steps, and before each of them robosuite recomputes the torques of
    the arms. Of 10 ms of CPU time per control step of Lift, MuJoCo's physics take 1.2 ms and the
    linear algebra of the torques 1 ms; the rest are look-ups by name, limits that never change,
    copies, and repeated Jacobians. This class resolves names once per episode, and a control step
    takes 4 ms. The same operations on arrays of the same memory layout make the torques
    bit-identical.

    The first physics step of a control step is left to robosuite: goals, grippers (whose controls
    are constant afterwards) and the history of the robots. So is every physics step of robots and
    controllers that :func:`_supported_arms` does not support. This class becomes obsolete when
    robosuite's controllers take less time than its physics.

    Assign it to one environment instance, since other code may use robosuite's classes:
    ``simulator._pre_action = FastOSC(simulator)``.

    Args:
        simulator: robosuite environment.
    """

    def __init__(self, simulator: Any) -> None:
        self._simulator = simulator
        self._original = simulator._pre_action
        self._parts: list[Any] = []
        self._arms: list[_Arm] = []

    def __call__(self, action: np.ndarray, policy_step: bool = False) -> None:
        """Set the controls of one physics step, between MuJoCo's ``step1`` and ``step2``.

        Args:
            action: actions of all robots, [A].
            policy_step: whether this is the first physics step of a control step.
        """
        if policy_step or not self._arms:
            self._original(action, policy_step)
        if policy_step:
            self._update_goals()
            return
        for arm in self._arms:
            arm.apply_torques()

    def _update_goals(self) -> None:
        parts = [
            part for robot in self._simulator.robots for part in robot.part_controllers.values()
        ]
        # robosuite creates new controllers in every reset and for every model.
        if parts != self._parts:
            self._parts, self._arms = parts, _supported_arms(self._simulator)
        for arm in self._arms:
            arm.update_goal()


def _supported_arms(simulator: Any) -> list[_Arm]:
    """Arms of the robots; empty if any controller is not supported."""
    if not _IS_SUPPORTED_VERSION or not simulator.lite_physics:
        return []
    arms = []
    for robot in simulator.robots:
        # Exact types, since subclasses may override any method.
        types = type(robot), type(robot.composite_controller)
        if types != (FixedBaseRobot, CompositeController):
            return []
        for name, part in robot.part_controllers.items():
            if not robot._enabled_parts.get(name):
                return []
            actuators = robot._ref_actuators_indexes_dict[name]
            if type(part) is OperationalSpaceController and _is_supported(part, actuators):
                arms.append(_Arm(part, actuators))
            elif type(part) is not SimpleGripController or part.interpolator is not None:
                return []
    return arms


def _is_supported(controller: OperationalSpaceController, actuators: Sequence[int]) -> bool:
    """Whether :class:`_Arm` computes the torques of this controller."""
    model, _ = _simulation(controller)
    name = f"{controller.naming_prefix}{controller.part_name}_center"
    base = model.site_bodyid[controller.sim.model.site_name2id(name)]
    return (
        controller.interpolator_pos is None
        and controller.interpolator_ori is None
        and controller.uncoupling
        and controller.lite_physics
        and controller.num_ref_sites == 1
        and model.body_weldid[base] == 0  # fixed base
        and all(
            [*indices] == [*range(indices[0], indices[0] + len(indices))]
            for indices in (controller.qpos_index, controller.qvel_index, actuators)
        )
    )


class _Arm:
    """Operational space controller of one arm.

    Args:
        controller: robosuite's controller, which processes the goals.
        actuators: indices of the actuators of the arm's N joints, [N].
    """

    def __init__(self, controller: OperationalSpaceController, actuators: Sequence[int]) -> None:
        self._controller = controller
        self._model, self._data = model, data = _simulation(controller)
        self._site = controller.sim.model.site_name2id(controller.ref_name)
        joints, dofs = _as_slice(controller.qpos_index), _as_slice(controller.qvel_index)
        # Views of MuJoCo's buffers.
        self._position = data.site_xpos[self._site]
        self._rotation = data.site_xmat[self._site].reshape(3, 3)
        self._velocities, self._sparse_mass = data.qvel, data.qM
        self._joint_positions, self._joint_velocities = data.qpos[joints], data.qvel[dofs]
        self._bias = data.qfrc_bias[dofs]
        self._controls = data.ctrl[_as_slice(actuators)]
        self._low, self._high = model.actuator_ctrlrange[actuators].T

        # Memory layout and alignment determine the rounding of products and inverses: an array of
        # its own for each that robosuite has, no halves of one, and copies that keep the order.
        self._linear_jacobian = np.zeros((3, model.nv))
        self._angular_jacobian = np.zeros((3, model.nv))
        self._linear_view = self._linear_jacobian[:, dofs]
        self._angular_view = self._angular_jacobian[:, dofs]
        self._jacobian = controller.J_full.copy()
        self._arm_linear, self._arm_angular = controller.J_pos.copy(), controller.J_ori.copy()
        self._full_mass = np.zeros((model.nv, model.nv))
        self._mass_view = self._full_mass[dofs, dofs]
        self._mass = controller.mass_matrix.copy(order="K")
        self._error, self._velocity, self._wrench = np.zeros((3, 6))

    def update_goal(self) -> None:
        """Read the controller's goal, converted to the world frame, its gains and its rest pose."""
        controller = self._controller
        self._goal, self._goal_rotation = controller.goal_pos, controller.goal_ori
        if controller.input_ref_frame == "base":
            rotation = controller.origin_ori
            self._goal = controller.origin_pos + np.dot(rotation, controller.goal_pos)
            self._goal_rotation = np.dot(rotation, controller.goal_ori)
        self._stiffness, self._damping = controller.kp[:6], controller.kd[:6]
        self._rest = controller.initial_joint

    def apply_torques(self) -> None:
        """Set the torques, [N] in Nm, that pursue the goal and the rest pose and resist gravity."""
        error, velocity, wrench = self._error, self._velocity, self._wrench
        jacobian, mass = self._jacobian, self._mass
        mujoco.mj_jacSite(
            self._model, self._data, self._linear_jacobian, self._angular_jacobian, self._site
        )
        self._arm_linear[:], self._arm_angular[:] = self._linear_view, self._angular_view
        jacobian[:3], jacobian[3:] = self._arm_linear, self._arm_angular
        mujoco.mj_fullM(self._model, self._full_mass, self._sparse_mass)
        mass[:] = self._mass_view

        np.subtract(self._goal, self._position, out=error[:3])
        error[3:] = orientation_error(self._goal_rotation, self._rotation)
        np.dot(self._linear_jacobian, self._velocities, out=velocity[:3])
        np.dot(self._angular_jacobian, self._velocities, out=velocity[3:])
        acceleration = error * self._stiffness - velocity * self._damping
        _, linear_inertia, angular_inertia, nullspace = opspace_matrices(
            mass, jacobian, self._arm_linear, self._arm_angular
        )
        np.dot(linear_inertia, acceleration[:3], out=wrench[:3])
        np.dot(angular_inertia, acceleration[3:], out=wrench[3:])
        torques = np.dot(jacobian.T, wrench) + self._bias
        torques += nullspace_torques(
            mass, nullspace, self._rest, self._joint_positions, self._joint_velocities
        )
        np.maximum(torques, self._low, out=torques)
        np.minimum(torques, self._high, out=self._controls)


def _simulation(
    controller: OperationalSpaceController,
) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """MuJoCo model and data of a controller."""
    return controller.sim.model._model, controller.sim.data._data


def _as_slice(indices: Sequence[int]) -> slice:
    """Slice of consecutive indices."""
    return slice(indices[0], indices[-1] + 1)
