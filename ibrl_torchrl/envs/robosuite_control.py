"""robosuite's control of arms: the same numbers in less than half of the time.

To be imported once robosuite is known to be there.
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

# Another version may compute other torques, which the tests would tell.
_IS_KNOWN = version("robosuite") == "1.5.2"


class FastOSC:
    """What robosuite does before every physics step, without what it repeats in vain.

    A control step is 25 physics steps, before each of which robosuite computes the torques of the
    arms anew. Of 10 ms of CPU time for a control step of Lift, MuJoCo's physics take 1.2 and the
    linear algebra of the torques 1; the rest goes into look-ups by name, limits that never change,
    copies, and Jacobians made several times over. Here, where a control step takes 4 ms, names are
    resolved once an episode. The same operations on arrays of the same layout make the torques the
    same to the last bit.

    Whatever happens once in a control step stays robosuite's, and so does the first of its physics
    steps: goals, grippers (whose controls hold from then on) and what robots remember. So does
    every step of robots and controllers that are not known to compute just this, see
    :func:`_arms_of`. This can go when robosuite's own control costs no more than its physics.

    To be put in the place of one environment's method, classes being shared with others:
    ``simulator._pre_action = LeanControl(simulator)``.

    Args:
        simulator: an environment of robosuite.
    """

    def __init__(self, simulator: Any) -> None:
        self._simulator = simulator
        self._robosuites = simulator._pre_action
        self._parts: list[Any] = []
        self._arms: list[_Arm] = []

    def __call__(self, action: np.ndarray, policy_step: bool = False) -> None:
        """Write the controls of one physics step, between MuJoCo's ``step1`` and ``step2``.

        Args:
            action: [A], of all robots.
            policy_step: whether this is the first physics step of a control step.
        """
        if policy_step or not self._arms:
            self._robosuites(action, policy_step)
        if policy_step:
            self._take_up_goals()
            return
        for arm in self._arms:
            arm.actuate()

    def _take_up_goals(self) -> None:
        parts = [
            part for robot in self._simulator.robots for part in robot.part_controllers.values()
        ]
        # With every reset and every model, robosuite makes its controllers anew.
        if parts != self._parts:
            self._parts, self._arms = parts, _arms_of(self._simulator)
        for arm in self._arms:
            arm.take_up_goal()


def _arms_of(simulator: Any) -> list[_Arm]:
    """The arms to be controlled here; none if anything has to be left to robosuite."""
    if not _IS_KNOWN or not simulator.lite_physics:
        return []
    arms = []
    for robot in simulator.robots:
        # Subclasses may do anything, hence types instead of instances.
        kinds = type(robot), type(robot.composite_controller)
        if kinds != (FixedBaseRobot, CompositeController):
            return []
        for name, part in robot.part_controllers.items():
            if not robot._enabled_parts.get(name):
                return []
            actuators = robot._ref_actuators_indexes_dict[name]
            if type(part) is OperationalSpaceController and _is_plain(part, actuators):
                arms.append(_Arm(part, actuators))
            elif type(part) is not SimpleGripController or part.interpolator is not None:
                return []
    return arms


def _is_plain(controller: OperationalSpaceController, actuators: Sequence[int]) -> bool:
    """Whether :class:`_Arm` computes what this controller does."""
    model, _ = _simulation(controller)
    name = f"{controller.naming_prefix}{controller.part_name}_center"
    base = model.site_bodyid[controller.sim.model.site_name2id(name)]
    return (
        controller.interpolator_pos is None
        and controller.interpolator_ori is None
        and controller.uncoupling
        and controller.lite_physics
        and controller.num_ref_sites == 1
        and model.body_weldid[base] == 0  # it stands still
        and all(
            [*indexes] == [*range(indexes[0], indexes[0] + len(indexes))]
            for indexes in (controller.qpos_index, controller.qvel_index, actuators)
        )
    )


class _Arm:
    """One arm of N joints in a model of V degrees of freedom.

    Args:
        controller: which is given the goals.
        actuators: indexes of the arm's actuators, N.
    """

    def __init__(self, controller: OperationalSpaceController, actuators: Sequence[int]) -> None:
        self._controller = controller
        self._model, self._data = model, data = _simulation(controller)
        self._site = controller.sim.model.site_name2id(controller.ref_name)
        joints, dofs = _span(controller.qpos_index), _span(controller.qvel_index)
        # Views, which MuJoCo writes to.
        self._position = data.site_xpos[self._site]
        self._rotation = data.site_xmat[self._site].reshape(3, 3)
        self._velocities, self._packed_masses = data.qvel, data.qM
        self._joint_positions, self._joint_velocities = data.qpos[joints], data.qvel[dofs]
        self._bias = data.qfrc_bias[dofs]
        self._controls = data.ctrl[_span(actuators)]
        self._low, self._high = model.actuator_ctrlrange[actuators].T

        everything = np.zeros((6, model.nv))
        self._jacobian_of_everything, self._jacobian = everything[:, dofs], controller.J_full.copy()
        self._moves, self._turns = everything[:3], everything[3:]
        self._masses_of_everything = np.zeros((model.nv, model.nv))
        self._masses = self._masses_of_everything[dofs, dofs]
        # Its layout, which a copy keeps, decides how it is multiplied and inverted.
        self._mass = controller.mass_matrix.copy(order="K")
        self._error, self._velocity, self._wrench = np.zeros((3, 6))

    def take_up_goal(self) -> None:
        """Go on towards what the controller was given last, in the world's frame."""
        controller = self._controller
        self._goal, self._goal_rotation = controller.goal_pos, controller.goal_ori
        if controller.input_ref_frame == "base":
            turn = controller.origin_ori
            self._goal = controller.origin_pos + np.dot(turn, controller.goal_pos)
            self._goal_rotation = np.dot(turn, controller.goal_ori)
        self._stiffness, self._damping = controller.kp[:6], controller.kd[:6]
        self._rest = controller.initial_joint

    def actuate(self) -> None:
        """Write torques, N in Nm: to the goal, against gravity, and towards the pose of rest."""
        error, velocity, wrench = self._error, self._velocity, self._wrench
        jacobian, mass = self._jacobian, self._mass
        mujoco.mj_jacSite(self._model, self._data, self._moves, self._turns, self._site)
        jacobian[:] = self._jacobian_of_everything
        mujoco.mj_fullM(self._model, self._masses_of_everything, self._packed_masses)
        mass[:] = self._masses

        np.subtract(self._goal, self._position, out=error[:3])
        error[3:] = orientation_error(self._goal_rotation, self._rotation)
        np.dot(self._moves, self._velocities, out=velocity[:3])
        np.dot(self._turns, self._velocities, out=velocity[3:])
        acceleration = error * self._stiffness - velocity * self._damping
        _, inertia, inertia_of_turns, nullspace = opspace_matrices(
            mass, jacobian, jacobian[:3], jacobian[3:]
        )
        np.dot(inertia, acceleration[:3], out=wrench[:3])
        np.dot(inertia_of_turns, acceleration[3:], out=wrench[3:])
        torques = np.dot(jacobian.T, wrench) + self._bias
        torques += nullspace_torques(
            mass, nullspace, self._rest, self._joint_positions, self._joint_velocities
        )
        np.maximum(torques, self._low, out=torques)
        np.minimum(torques, self._high, out=self._controls)


def _simulation(
    controller: OperationalSpaceController,
) -> tuple[mujoco.MjModel, mujoco.MjData]:
    return controller.sim.model._model, controller.sim.data._data


def _span(indexes: Sequence[int]) -> slice:
    return slice(indexes[0], indexes[-1] + 1)
