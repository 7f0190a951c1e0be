"""Episodes to transitions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from torchrl.data.postprocs import MultiStep
from torchrl.envs.transforms import Transform

from ibrl_torchrl import keys


class EpisodeToTransitions(Transform):
    """Write-side transform: complete episodes to n-step transitions.

    Transition t goes from s_t to s_{t+k}, k = min(n, steps left), with reward
    sum_{j<k} gamma^j r_{t+j}, the done flags of its *last* step, and ``steps_to_next_obs`` = k, by
    which TorchRL's estimators raise gamma. So a window that reaches success does not bootstrap and
    one that reaches the horizon bootstraps from the last observation.

    Args:
        observation_keys: what to store of each observation; everything else that a policy or
            collector wrote is dropped.
        n_steps: n, default 3 (original code).
        gamma: discount, must equal the loss's.
        time_limit_terminates: treat the horizon as terminal, as the original code does; default
            False, which is correct.

    Raises:
        ValueError: an episode does not end with ``done``, so that its last windows are unknown.
    """

    def __init__(
        self,
        observation_keys: Sequence[str],
        *,
        n_steps: int = 3,
        gamma: float = 0.99,
        time_limit_terminates: bool = False,
    ) -> None:
        super().__init__()
        step = [keys.REWARD, keys.DONE, keys.TERMINATED, keys.TRUNCATED]
        self._kept = [
            *observation_keys,
            keys.ACTION,
            *((keys.NEXT, key) for key in [*observation_keys, *step]),
        ]
        self._time_limit_terminates = time_limit_terminates
        self._multi_step = MultiStep(gamma=gamma, n_steps=n_steps)
        # By default TorchRL moves reward and observation to the end of the window but leaves the
        # done flags of its first step, which bootstraps past success.
        self._multi_step.done_keys = [keys.DONE]
        self._multi_step.mask_key = None

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Leave samples as they are."""
        return tensordict

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        if not bool(tensordict[keys.NEXT, keys.DONE][-1]):
            raise ValueError("replay takes complete episodes; this one does not end with done")
        episode = tensordict.select(*self._kept)
        if self._time_limit_terminates:
            terminated = episode[keys.NEXT, keys.TERMINATED] | episode[keys.NEXT, keys.TRUNCATED]
            episode.set((keys.NEXT, keys.TERMINATED), terminated)
        transitions = self._multi_step(episode)
        # Done follows the other flags: true where the window reached the end of the episode.
        last = transitions[keys.NEXT, keys.TERMINATED] | transitions[keys.NEXT, keys.TRUNCATED]
        transitions.set((keys.NEXT, keys.DONE), last)
        return transitions.select(*self._kept, keys.STEPS_TO_NEXT_OBS)


class ConstantReward(Transform):
    """Write-side transform: every step of an episode earns the same (SQIL).

    It is written before :class:`EpisodeToTransitions`, whose n-step rewards then are sums of it.

    Args:
        reward: of each step.
    """

    def __init__(self, reward: float) -> None:
        super().__init__()
        self._reward = reward

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Leave samples as they are."""
        return tensordict

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        rewards = torch.full_like(tensordict[keys.NEXT, keys.REWARD], self._reward)
        return tensordict.copy().set((keys.NEXT, keys.REWARD), rewards)
