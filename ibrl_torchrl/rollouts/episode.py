"""Reproducible episodes, the interface of rollout backends, and rollouts in this process.

An episode is a function of the policy's weights and of a seed, which determines the initial state
and the policy's random draws. It therefore does not depend on the process that runs it:
``rollouts/processes.py`` runs the same episodes in worker processes, ``rollouts/ray.py`` on a
cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from typing import Protocol

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.console import echo
from ibrl_torchrl.envs.base import SparseRewardEnv
from ibrl_torchrl.episodes import executed_episode
from ibrl_torchrl.errors import UsageError, brief
from ibrl_torchrl.keys import ACTION, DONE, INTERVENTION, NEXT, PROPOSAL, TERMINATED
from ibrl_torchrl.runtime import forked_rng

MAX_STEPS = 1_000_000  # environments end their episodes; EnvBase.rollout needs a bound


@torch.no_grad()
def rollout_episode(
    env: EnvBase,
    policy: TensorDictModuleBase,
    seed: int,
    *,
    explore: bool = False,
    max_steps: int | None = None,
) -> TensorDict:
    """Run one episode.

    The global random state of PyTorch is left unchanged.

    Args:
        env: unbatched environment that terminates or truncates its episodes.
        policy: module in eval mode that writes ``action``, and ``proposal`` if it selects one.
        seed: seed of the initial state and of the policy's random draws.
        explore: act under ``ExplorationType.RANDOM`` instead of ``DETERMINISTIC``. Default False.
        max_steps: steps after which the episode is truncated; None (default): the environment
            alone ends it.

    Returns:
        TensorDict [T] on the CPU: observations, executed ``action``, ``proposal``, and where
        somebody else may act ``intervention``; under ``next`` observations, reward and end flags.

    Raises:
        NotFinite: an observation of a :class:`SparseRewardEnv` is NaN or inf, for which the policy
            has no action: the simulation became unstable.
    """
    exploration = ExplorationType.RANDOM if explore else ExplorationType.DETERMINISTIC
    with forked_rng(env.device), set_exploration_type(exploration):
        torch.manual_seed(seed)
        env.set_seed(seed)
        try:
            episode = env.rollout(max_steps or MAX_STEPS, policy)
        except (ArithmeticError, RuntimeError, ValueError):
            if isinstance(simulator := getattr(env, "base_env", env), SparseRewardEnv):
                simulator.require_finite()
            raise
    if not episode[NEXT, DONE][-1].any():  # max_steps has truncated it
        for key in {*env.done_keys} - {TERMINATED}:
            episode[NEXT, key][-1] = True
    next_keys = [*env.observation_spec.keys(), *env.reward_keys, *env.done_keys]
    root_keys = [*env.observation_spec.keys(), ACTION, PROPOSAL, INTERVENTION]
    keys = [*root_keys, *((NEXT, key) for key in next_keys)]
    return executed_episode(episode.select(*keys, strict=False).cpu())


class Rollouts(Protocol):
    """Rollout backend: runs episodes of named policies asynchronously.

    Attributes:
        policies: policies by name.
        num_workers: number of episodes that run in parallel.
    """

    policies: Mapping[str, TensorDictModuleBase]
    num_workers: int

    def snapshot(self) -> list[Tensor]:
        """Copy of the current parameters and buffers of all policies."""
        ...

    def submit(
        self,
        policy: str,
        seed: int,
        *,
        explore: bool = False,
        max_steps: int | None = None,
        urgent: bool = False,
        weights: list[Tensor] | None = None,
    ) -> Future[TensorDict]:
        """Request an episode, as :func:`rollout_episode` runs it.

        Args:
            policy: name of the policy.
            seed: seed of the episode.
            explore: act with exploration. Default False.
            max_steps: steps after which it is truncated; None (default): the environment decides.
            urgent: somebody waits for it, so that it comes before those that are not. Default
                False.
            weights: result of :meth:`snapshot`; None (default) for the current weights.

        Returns:
            Future of the episode, TensorDict [T] on the CPU.
        """
        ...

    def close(self) -> None:
        """Stop workers and cancel unfinished requests."""
        ...


class LocalRollouts:
    """Rollout backend in this process: an episode is finished when ``submit`` returns.

    Args:
        env: unbatched environment, see :func:`rollout_episode`.
        policies: policies by name.
    """

    def __init__(self, env: EnvBase, policies: Mapping[str, TensorDictModuleBase]) -> None:
        self.policies = policies
        self.num_workers = 1
        self._env = env

    def snapshot(self) -> list[Tensor]:
        """Empty list: episodes finish before any weight can change."""
        return []

    def submit(
        self,
        policy: str,
        seed: int,
        *,
        explore: bool = False,
        max_steps: int | None = None,
        urgent: bool = False,
        weights: list[Tensor] | None = None,
    ) -> Future[TensorDict]:
        """Run an episode, see :class:`Rollouts`; repeat it if the simulator raises an exception."""
        del urgent, weights
        future: Future[TensorDict] = Future()
        run = partial(
            rollout_episode,
            self._env,
            self.policies[policy],
            seed,
            explore=explore,
            max_steps=max_steps,
        )
        try:
            future.set_result(run())
        except UsageError:
            raise
        except Exception as error:
            reason = brief(f"{type(error).__name__}: {error}")
            echo(f"warning: the simulator raised {reason}; its episode is repeated")
            future.set_result(run())
        return future

    def close(self) -> None:
        """Do nothing; the caller closes the environment."""
