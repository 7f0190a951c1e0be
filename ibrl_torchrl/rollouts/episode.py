"""Episode of a policy from a named initial state, and rollouts in this process.

An episode is a function of the policy's weights and of its seed, which fixes the initial state and
the policy's random draws. So it does not matter in which process it runs, or when:
``rollouts/processes.py`` runs the same ones in worker processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Protocol

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.keys import ACTION, NEXT, PROPOSAL

MAX_STEPS = 1_000_000  # environments end their episodes; EnvBase.rollout needs a bound


@torch.no_grad()
def rollout_episode(
    env: EnvBase, policy: TensorDictModuleBase, seed: int, *, explore: bool = False
) -> TensorDict:
    """Run one episode.

    The global random state of PyTorch is left unchanged.

    Args:
        env: an unbatched environment that ends its episodes.
        policy: writes ``action``, and ``proposal`` where it chooses among several; in eval mode.
        seed: of the initial state and of the policy's random draws.
        explore: act with noise and random choices, as for data collection. Default False.

    Returns:
        Episode [T] on the CPU: observations, ``action``, ``proposal``, and under ``next`` the
        result of each step.
    """
    kind = ExplorationType.RANDOM if explore else ExplorationType.DETERMINISTIC
    with torch.random.fork_rng(), set_exploration_type(kind):
        torch.manual_seed(seed)
        env.set_seed(seed)
        episode = env.rollout(MAX_STEPS, policy)
    results = [*env.observation_spec.keys(), *env.reward_keys, *env.done_keys]
    keys = [*env.observation_spec.keys(), ACTION, PROPOSAL, *((NEXT, key) for key in results)]
    return episode.select(*keys, strict=False).cpu()


class Rollouts(Protocol):
    """Backend that runs episodes of named policies on request.

    Attributes:
        policies: by name.
        num_workers: episodes that run in parallel.
    """

    policies: Mapping[str, TensorDictModuleBase]
    num_workers: int

    def snapshot(self) -> list[Tensor]:
        """Copy of the current weights of all policies."""
        ...

    def submit(
        self, policy: str, seed: int, *, explore: bool = False, weights: list[Tensor] | None = None
    ) -> Future[TensorDict]:
        """Request an episode, as :func:`rollout_episode` runs it.

        Args:
            policy: its name.
            seed: of the episode.
            explore: act as for data collection; such requests have priority. Default False.
            weights: a snapshot to use; None (default) takes the current weights.
        """
        ...

    def close(self) -> None:
        """Stop, and cancel unfinished requests."""
        ...


class LocalRollouts:
    """Rollouts in this process, each run when it is submitted.

    Args:
        env: see :func:`rollout_episode`.
        policies: by name.
    """

    def __init__(self, env: EnvBase, policies: Mapping[str, TensorDictModuleBase]) -> None:
        self.policies = policies
        self.num_workers = 1
        self._env = env

    def snapshot(self) -> list[Tensor]:
        """Empty list: an episode has run before any weight can change."""
        return []

    def submit(
        self, policy: str, seed: int, *, explore: bool = False, weights: list[Tensor] | None = None
    ) -> Future[TensorDict]:
        """Run an episode, see :class:`Rollouts`."""
        del weights
        future: Future[TensorDict] = Future()
        future.set_result(rollout_episode(self._env, self.policies[policy], seed, explore=explore))
        return future

    def close(self) -> None:
        """Do nothing: the environment belongs to the caller."""
