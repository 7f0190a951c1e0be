"""Write-side transforms from episodes to n-step transitions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data.postprocs import MultiStep
from torchrl.envs.transforms import Transform

from ibrl_torchrl import keys


class EpisodeToTransitions(Transform):
    """Write-side transform from complete episodes to n-step transitions.

    Transition t leads from s_t to s_{t+k}, k = min(n, steps left), with reward
    sum_{j<k} gamma^j r_{t+j}, the done flags of its *last* step, and ``steps_to_next_obs`` = k,
    int64 [T, 1], the exponent of gamma in TorchRL's value estimators. So a window that reaches
    success does not bootstrap, and one that reaches the horizon bootstraps from the last
    observation. So does a window that reaches the end of a part of an episode, whose last step is
    ``done`` and neither ``terminated`` nor ``truncated``.

    A row of an episode that spans several environment steps, such as an action chunk, has their
    number c_t under ``steps_to_next_obs``, int64 [T, 1], and the discounted sum of their rewards as
    its reward r_t. Transitions then have the reward
    sum_{j<k} gamma^{c_t + ... + c_{t+j-1}} r_{t+j} and ``steps_to_next_obs`` = c_t + ... +
    c_{t+k-1}, with k counted in rows. Without the key every c_t is 1.

    Collectors must write complete episodes: pass them ``trajs_per_batch=1, trajs_per_write=1``.

    Args:
        observation_keys: keys to store of each observation; everything else that a policy or
            collector wrote is dropped.
        n_steps: n, maximum number of rows in a window, default 3 (original code of
            arXiv 2311.02198).
        gamma: discount, equal to the loss's. Default 0.99.
        time_limit_terminates: treat the horizon as terminal, as the original code does. Default
            False, the correct treatment of time limits (arXiv 1712.00378).

    Raises:
        ValueError: at ``extend``, when the last step is not ``done``, or the episode's
            ``steps_to_next_obs`` is not int64 [T, 1] of at least 1.

    Example:
        Two chunks of 4 actions, then one of 2 with the reward of success:

        >>> import torch
        >>> from tensordict import TensorDict
        >>> end = torch.tensor([[False], [False], [True]])
        >>> episode = TensorDict(
        ...     {
        ...         "state": torch.zeros(3, 5),
        ...         "action": torch.zeros(3, 2),
        ...         "steps_to_next_obs": torch.tensor([[4], [4], [2]]),
        ...         "next": {
        ...             "state": torch.zeros(3, 5),
        ...             "reward": end.float(),
        ...             "terminated": end,
        ...             "truncated": torch.zeros_like(end),
        ...             "done": end,
        ...         },
        ...     },
        ...     batch_size=[3],
        ... )
        >>> transitions = EpisodeToTransitions(["state"], n_steps=2, gamma=0.5).inv(episode)
        >>> transitions["steps_to_next_obs"].flatten().tolist()
        [8, 6, 2]
        >>> transitions["next", "reward"].flatten().tolist()  # 0.5 ** 4 one chunk earlier
        [0.0, 0.0625, 1.0]
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
        if tensordict.ndim != 1:
            raise ValueError(
                f"replay takes one episode [T] at a time, got the batch size "
                f"{[*tensordict.batch_size]}; extend it by each episode"
            )
        if not bool(tensordict[keys.NEXT, keys.DONE][-1]):
            raise ValueError(
                f"replay takes complete episodes, but the last of {len(tensordict)} steps is not "
                "done; pass trajs_per_batch=1 to the collector, and shared=True to episode_buffer "
                "if the collector has several processes"
            )
        if tensordict.get((keys.NEXT, keys.TRUNCATED), None) is None:
            done, terminated = (tensordict[keys.NEXT, key] for key in (keys.DONE, keys.TERMINATED))
            tensordict = tensordict.copy().set((keys.NEXT, keys.TRUNCATED), done & ~terminated)
        # Detached: env.rollout records gradients of the policy, which a storage must not.
        episode = tensordict.select(*self._stored_keys).detach()
        if self._time_limit_terminates:
            terminated = episode[keys.NEXT, keys.TERMINATED] | episode[keys.NEXT, keys.TRUNCATED]
            episode.set((keys.NEXT, keys.TERMINATED), terminated)
        transitions = self._multi_step(episode)
        num_rows = transitions[keys.STEPS_TO_NEXT_OBS].reshape(-1, 1)  # TorchRL writes [T]
        transitions.set(keys.STEPS_TO_NEXT_OBS, num_rows)
        if (steps := tensordict.get(keys.STEPS_TO_NEXT_OBS, None)) is not None:
            rewards = episode[keys.NEXT, keys.REWARD]
            rewards, steps = self._discount_by_steps(rewards, steps, num_rows)
            transitions.set((keys.NEXT, keys.REWARD), rewards)
            transitions.set(keys.STEPS_TO_NEXT_OBS, steps)
        # Done follows the other flags: true where the window reached the end of the episode, and
        # where it reached the end of a part of one.
        done = transitions[keys.NEXT, keys.TERMINATED] | transitions[keys.NEXT, keys.TRUNCATED]
        rows = torch.arange(len(episode), device=num_rows.device)[:, None] + num_rows
        transitions.set((keys.NEXT, keys.DONE), done | (rows == len(episode)))
        return transitions.select(*self._stored_keys, keys.STEPS_TO_NEXT_OBS)

    def _discount_by_steps(
        self, rewards: Tensor, steps: Tensor, num_rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum rewards and steps over windows of rows that span several environment steps.

        Args:
            rewards: reward of each row, float [T, 1].
            steps: environment steps of each row, int64 [T, 1].
            num_rows: rows of each window, int64 [T, 1].

        Returns:
            Discounted reward, float [T, 1], and environment steps, int64 [T, 1], of each window.
        """
        length, n_steps, gamma = len(steps), self._multi_step.n_steps, self._multi_step.gamma
        if steps.shape != (length, 1) or steps.dtype != torch.int64 or bool((steps < 1).any()):
            raise ValueError(
                f"{keys.STEPS_TO_NEXT_OBS} must be int64 [{length}, 1] of at least 1, "
                f"got {steps.dtype} {[*steps.shape]} with a minimum of {steps.min().item()}"
            )
        # Steps before each row, and of all rows: [T + 1]
        start = F.pad(steps[:, 0].cumsum(0), (1, 0))
        row = torch.arange(length, device=steps.device)[:, None]
        offset = torch.arange(n_steps, device=steps.device)
        window = (row + offset).clamp(max=length - 1)  # [T, n]
        elapsed = (start[window] - start[row]).to(rewards.dtype)
        discount = (gamma**elapsed).where(offset < num_rows, 0.0)
        return (discount[..., None] * rewards[window]).sum(1), start[row + num_rows] - start[row]


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
