"""Point on a plane that somebody else moves in some steps, as reported by wrappers for robots."""

import gymnasium
import numpy as np
from tensordict.nn import TensorDictModule

from support.point_env import Point, expert

POINT = "support.teleoperation:TeleoperatedPoint-v0"
SPARSE = "support.teleoperation:SparselyReported-v0"


class Teleoperated(gymnasium.Wrapper):
    """In the given steps of an episode another action is executed, reported as by gym-hil."""

    def __init__(self, env, steps, action, reported=None):
        super().__init__(env)
        self._steps, self._action = steps, np.asarray(action, np.float32)
        self._reported = self._action if reported is None else reported

    def reset(self, **kwargs):
        self._step = 0
        return self.env.reset(**kwargs)

    def step(self, action):
        taken = self._step in self._steps
        self._step += 1
        observation, reward, terminated, truncated, info = self.env.step(
            self._action if taken else action
        )
        info |= self.report(taken, action)
        return observation, reward, terminated, truncated, info

    def report(self, taken, action):
        return {"is_intervention": taken, "teleop_action": self._reported if taken else action}


class SparselyReported(Teleoperated):
    """Likewise, reported as by HIL-SERL."""

    def report(self, taken, action):
        return {"intervene_action": self._reported} if taken else {}


def _register(name, wrapper):
    def make(steps=(1, 2), action=(1.0, 3.0), reported=None, **kwargs):
        return wrapper(Point(**kwargs), steps, action, reported)

    make.metadata = Point.metadata
    gymnasium.register(name, make, max_episode_steps=5)


_register("TeleoperatedPoint-v0", Teleoperated)
_register("SparselyReported-v0", SparselyReported)


def memoryless_expert(task, noise=0.0, *, seed=0) -> TensorDictModule:
    """Expert that may act in any state."""
    policy = expert(task, noise, seed=seed)
    policy.is_memoryless = True
    return policy
