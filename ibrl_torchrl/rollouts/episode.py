"""Episodes of policies from named start states, played in this process.

An episode is a function of the policy's weights and of its seed, which names the start state and
fixes what the policy draws. So it does not matter where it is played, or when:
``rollout_workers.py`` plays the same ones in other processes.
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

MAX_STEPS = 1_000_000  # environments end their own episodes; rollout wants a bound


@torch.no_grad()
def rollout_episode(
    env: EnvBase, policy: TensorDictModuleBase, seed: int, *, explore: bool = False
) -> TensorDict:
    """Play one episode.

    The global random state of PyTorch is left as it was found.

    Args:
        env: an unbatched environment that ends its episodes itself.
        policy: writes ``action``, and ``proposal`` where it chooses among several; in eval mode.
        seed: names the start state, and fixes what the policy draws.
        explore: act with noise and random choices, as the policy does to collect.

    Returns:
        The episode [T] on the CPU: observations, ``action``, ``proposal``, and the outcome of each
        step under ``next``.
    """
    kind = ExplorationType.RANDOM if explore else ExplorationType.DETERMINISTIC
    with torch.random.fork_rng(), set_exploration_type(kind):
        torch.manual_seed(seed)
        env.set_seed(seed)
        episode = env.rollout(MAX_STEPS, policy)
    outcome = [*env.observation_spec.keys(), *env.reward_keys, *env.done_keys]
    kept = [*env.observation_spec.keys(), ACTION, PROPOSAL, *((NEXT, key) for key in outcome)]
    return episode.select(*kept, strict=False).cpu()


class Rollouts(Protocol):
    """Plays episodes of several policies, one for each order.

    Attributes:
        policies: by the name they are ordered by.
        num_workers: number of episodes that can be played at a time.
    """

    policies: Mapping[str, TensorDictModuleBase]
    num_workers: int

    def snapshot(self) -> list[Tensor]:
        """The weights of all policies as they are now."""
        ...

    def submit(
        self, policy: str, seed: int, *, explore: bool = False, weights: list[Tensor] | None = None
    ) -> Future[TensorDict]:
        """Let an episode be played as :func:`rollout_episode` does.

        Args:
            policy: its name.
            seed: of the episode.
            explore: act as the policy does to collect. Such episodes go before all others.
            weights: a snapshot to play with; None takes the weights as they are now.
        """
        ...

    def close(self) -> None:
        """Stop; what is not played yet is cancelled."""
        ...


class LocalRollouts:
    """Plays every episode in this process, at once, when it is ordered.

    Args:
        env: see :func:`rollout_episode`.
        policies: by name.
    """

    num_workers = 1

    def __init__(self, env: EnvBase, policies: Mapping[str, TensorDictModuleBase]) -> None:
        self.policies = policies
        self._env = env

    def snapshot(self) -> list[Tensor]:
        """Nothing: an order is played before any weight can change."""
        return []

    def submit(
        self, policy: str, seed: int, *, explore: bool = False, weights: list[Tensor] | None = None
    ) -> Future[TensorDict]:
        """Play an episode, see :class:`Rollouts`."""
        del weights
        played: Future[TensorDict] = Future()
        played.set_result(rollout_episode(self._env, self.policies[policy], seed, explore=explore))
        return played

    def close(self) -> None:
        """Leave the environment to its owner."""
