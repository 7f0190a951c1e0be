"""Point on a plane: a Gymnasium environment whose every number can be computed by hand."""

import gymnasium
import numpy as np
from gymnasium import spaces
from tensordict.nn import TensorDictModule
from torchrl.envs import EnvBase, GymEnv

GOAL = (4.0, 4.0)


class Point(gymnasium.Env):
    """A step adds the action to the position; success within 0.5 of the goal, x < -3 is the end."""

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode=None, colour=100):
        self.render_mode = render_mode
        self._colour = colour
        low, high = np.array([-2, 0], np.float32), np.array([2, 4], np.float32)
        self.action_space = spaces.Box(low, high)
        self.observation_space = spaces.Dict(
            position=spaces.Box(-np.inf, np.inf, (2,), np.float64),
            goal=spaces.Box(-10, 10, (2,), np.float32),
            pixels=spaces.Dict(top=spaces.Box(0, 255, (4, 8, 3), np.uint8)),
        )

    def _observation(self):
        image = np.zeros((4, 8, 3), np.uint8)
        image[:, 4:, 0] = self._colour  # the right half is red
        goal = np.array(GOAL, np.float32)
        return {"position": self._position.copy(), "goal": goal, "pixels": {"top": image}}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._position = self.np_random.uniform(-1, 1, 2)
        return self._observation(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self._position = self._position + action
        distance = float(np.abs(self._position - GOAL).max())
        info = {"is_success": distance < 0.5, "x": float(self._position[0])}
        return self._observation(), -distance, bool(self._position[0] < -3), False, info

    def render(self):
        return np.full((10, 20, 3), 7, np.uint8)


class Free(Point):
    """Actions without bounds."""

    def __init__(self):
        super().__init__()
        self.action_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)


gymnasium.register("PlanePoint-v0", Point, max_episode_steps=5)
gymnasium.register("Free-v0", Free, max_episode_steps=5)
gymnasium.register("Endless-v0", Point)


def expert(task: str, noise: float = 0.0, *, seed: int = 0) -> TensorDictModule:
    """Expert that moves to the goal: scaled from [-1, 1] to [-2, 2] and [0, 4]."""
    del task, noise, seed

    def act(state):
        delta = state[..., 2:] - state[..., :2]
        delta[..., 1] -= 2
        return (delta / 2).clamp(-1, 1)

    return TensorDictModule(act, ["state"], ["action"])


def make_plain(task: str) -> EnvBase:
    """An environment without success."""
    return GymEnv(task)


def unannotated(task):
    """A function that nothing says returns an environment."""
    return GymEnv(task)
