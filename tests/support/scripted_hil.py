"""Picking task of gym-hil whose controller is a script instead of a keyboard or a gamepad."""

import gymnasium
import numpy as np
from gym_hil.envs import PandaPickCubeGymEnv
from gym_hil.wrappers.hil_wrappers import (
    DEFAULT_EE_STEP_SIZE,
    EEActionWrapper,
    InputsControlWrapper,
)
from gym_hil.wrappers.intervention_utils import InputController
from tensordict.nn import TensorDictModule

TASK = "support.scripted_hil:ScriptedPick-v0"


class ScriptedController(InputController):
    """Takes over at a step of each episode, moves to the cube, grasps and lifts it."""

    def __init__(self, data, after):
        super().__init__(1.0, 1.0, 1.0)
        self._data, self._after = data, after

    def reset(self):
        self._step, self._closing = -1, 0
        self.intervention_flag = False

    def update(self):
        self._step += 1
        self.intervention_flag = self._step >= self._after
        delta = self._data.sensor("block_pos").data - self._data.sensor("2f85/pinch_pos").data
        if self._closing == 0 and np.linalg.norm(delta) < 0.01:
            self._closing = 1
        elif self._closing:
            self._closing += 1
        # gym-hil's command "open" moves the fingers to 255, which is closed.
        self.open_gripper_command, self.close_gripper_command = self._closing > 0, not self._closing
        if self._closing == 0:
            self._deltas = np.clip(delta / DEFAULT_EE_STEP_SIZE["x"], -1, 1)
        else:
            self._deltas = np.array([0, 0, 1.0 if self._closing > 5 else 0])

    def get_deltas(self):
        return tuple(self._deltas)


class ScriptedControl(InputsControlWrapper):
    """gym-hil's wrapper with the scripted controller: it starts neither keyboard nor gamepad."""

    def __init__(self, env, after):
        gymnasium.Wrapper.__init__(self, env)
        self.controller = ScriptedController(env.unwrapped.data, after)
        self.auto_reset = False
        self.use_gripper = True


def make(after=5, **kwargs):
    env = EEActionWrapper(PandaPickCubeGymEnv(**kwargs), DEFAULT_EE_STEP_SIZE, use_gripper=True)
    return ScriptedControl(env, after)


gymnasium.register("ScriptedPick-v0", make, max_episode_steps=60)


def still(task: str, noise: float = 0.0, *, seed: int = 0) -> TensorDictModule:
    """Policy that does nothing, so that the script demonstrates."""
    del task, noise, seed
    return TensorDictModule(lambda state: 0 * state[..., :4], ["state"], ["action"])
