"""Write-side transforms from episodes to n-step transitions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from torchrl.data.postprocs import MultiStep
from torchrl.envs.transforms import Transform

from ibrl_torchrl import keys


class EpisodeToTransitions(Transform):
    """Write-side transform from complete episodes to n-step transitions.

    Transition t leads from s_t to s_{t+k}, k = min(n, steps left), with reward
    sum_{j<k} gamma^j r_{t+j}, the done flags of its *last* step, and ``steps_to_next_obs`` = k,
    int64 [T, 1], the exponent of gamma in TorchRL's value estimators. So a window that reaches
    success does not bootstrap, and one that reaches the horizon bootstraps from the last
    observation.

    Collectors must write complete episodes: pass them ``trajs_per_batch=1, trajs_per_write=1``.

    Args:
        observation_keys: keys to store of each observation; everything else that a policy or
            collector wrote is dropped.
        n_steps: n, default 3 (original code of arXiv 2311.02198).
        gamma: discount, equal to the loss's. Default 0.99.
        time_limit_terminates: treat the horizon as terminal, as the original code does. Default
            False, the correct treatment of time limits (arXiv 1712.00378).

    Raises:
        ValueError: at ``extend``, when the last step is not ``done``.
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
        flags = [keys.REWARD, keys.DONE, keys.TERMINATED, keys.TRUNCATED]
        self._stored_keys = [
            *observation_keys,
            keys.ACTION,
            *((keys.NEXT, key) for key in [*observation_keys, *flags]),
        ]
        self._time_limit_terminates = time_limit_terminates
        self._multi_step = MultiStep(gamma=gamma, n_steps=n_steps)
        # By default TorchRL moves reward and observation to the end of the window but leaves the
        # done flags of its first step, which bootstraps past success.
        self._multi_step.done_keys = [keys.DONE]
        self._multi_step.mask_key = None

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Return samples unchanged."""
        return tensordict

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        if not bool(tensordict[keys.NEXT, keys.DONE][-1]):
            raise ValueError(
                f"replay takes complete episodes, but the last of {len(tensordict)} steps is not "
                "done; pass trajs_per_batch=1 to the collector, and shared=True to episode_buffer "
                "if the collector has several processes"
            )
        # Detached: env.rollout records gradients of the policy, which a storage must not.
        episode = tensordict.select(*self._stored_keys).detach()
        if self._time_limit_terminates:
            terminated = episode[keys.NEXT, keys.TERMINATED] | episode[keys.NEXT, keys.TRUNCATED]
            episode.set((keys.NEXT, keys.TERMINATED), terminated)
        transitions = self._multi_step(episode)
        # Done follows the other flags: true where the window reached the end of the episode.
        done = transitions[keys.NEXT, keys.TERMINATED] | transitions[keys.NEXT, keys.TRUNCATED]
        transitions.set((keys.NEXT, keys.DONE), done)
        return transitions.select(*self._stored_keys, keys.STEPS_TO_NEXT_OBS)


class ConstantReward(Transform):
    """Write-side transform that replaces the reward of every step by a constant.

    With reward 1 for demonstrations and 0 for online episodes: SQIL (arXiv 1905.11108). Placed
    after :class:`EpisodeToTransitions` in a ``Compose``, whose inverse runs from the last to the
    first, so that n-step rewards are sums of the constant.

    Args:
        reward: reward of each step.
    """

    def __init__(self, reward: float) -> None:
        super().__init__()
        self._reward = reward

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Return samples unchanged."""
        return tensordict

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        rewards = torch.full_like(tensordict[keys.NEXT, keys.REWARD], self._reward)
        return tensordict.copy().set((keys.NEXT, keys.REWARD), rewards)
