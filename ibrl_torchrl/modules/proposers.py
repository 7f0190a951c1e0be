"""Proposal sets: several candidate actions of one policy, and the keys of trained policies."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule, TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor, nn
from torchrl.envs.utils import ExplorationType, exploration_type, set_exploration_type

from ibrl_torchrl.modules.bounds import Bounds, clip
from ibrl_torchrl.modules.frozen import FrozenPolicy, require_action_output, stateful_part
from ibrl_torchrl.modules.imitation.base import StochasticPolicy


class SampledProposals(TensorDictModuleBase):
    """Set of N candidates of one policy, written under its action's key, float [*, N, A].

    Without ``noise_std`` they are N independent samples of a stochastic policy; a
    :class:`StochasticPolicy` encodes the observation once for all. With it, they are the policy's
    action followed by N - 1 copies with Gaussian noise, clipped to ``bounds``, for a deterministic
    policy.

    Under ``ExplorationType.DETERMINISTIC`` there is one candidate, the policy's mode or action, so
    that evaluations draw nothing.

    Args:
        policy: writes one action float [*, A]; usually a
            :class:`~ibrl_torchrl.modules.FrozenPolicy`.
        num_samples: number of candidates N, at least 1.
        noise_std: standard deviation of the noise, in action units; None (default): sample the
            policy itself.
        bounds: (low, high) of the actions, default (-1, 1); used with ``noise_std``.

    Raises:
        ValueError: an argument is out of range, or the policy writes several keys.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> bc = TensorDictModule(torch.nn.Linear(3, 2), ["state"], ["bc_action"])
        >>> proposals = SampledProposals(bc, 8, noise_std=0.1)
        >>> proposals(TensorDict(state=torch.zeros(5, 3), batch_size=[5]))["bc_action"].shape
        torch.Size([5, 8, 2])
    """

    def __init__(
        self,
        policy: TensorDictModuleBase,
        num_samples: int,
        *,
        noise_std: float | None = None,
        bounds: Bounds = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}")
        if noise_std is not None and noise_std < 0:
            raise ValueError(f"noise_std must not be negative, got {noise_std}")
        self._key = require_action_output(policy)
        if [*policy.out_keys] != [self._key]:
            raise ValueError(
                f"the policy must write its action alone, got {[*policy.out_keys]}; "
                "wrap it in FrozenPolicy"
            )
        self.policy = policy
        self.num_samples = num_samples
        self.noise_std = noise_std
        self.bounds = bounds
        self.in_keys = [*policy.in_keys]
        self.out_keys = [self._key]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the candidates, [*, N, A], or [*, 1, A] under ``DETERMINISTIC``."""
        random = exploration_type() in (None, ExplorationType.RANDOM)
        number = self.num_samples if random else 1
        # Looked up here: as a second child, `train()` would reach it around FrozenPolicy's.
        network = _sampling_network(self.policy)
        if random and self.noise_std is None and network is not None:
            observations = [tensordict.get(key) for key in self.in_keys]
            with torch.no_grad():
                candidates = network.candidates(*observations, number=number)
            return tensordict.set(self._key, candidates)
        inputs = tensordict.select(*self.in_keys).unsqueeze(tensordict.ndim)
        if self.noise_std is not None or not random:
            action = self.policy(inputs).get(self._key)
            return tensordict.set(self._key, self._add_noise(action, number))
        inputs = inputs.expand(*tensordict.batch_size, number)
        # Without a context, a ProbabilisticActor takes its mode.
        with set_exploration_type(ExplorationType.RANDOM):
            return tensordict.set(self._key, self.policy(inputs.copy()).get(self._key))

    def _add_noise(self, action: Tensor, number: int) -> Tensor:
        """The action [*, 1, A] and ``number - 1`` noisy copies of it, [*, number, A]."""
        if number == 1:
            return action
        copies = action.expand(*action.shape[:-2], number - 1, action.shape[-1])
        noisy = copies + torch.randn_like(copies) * (self.noise_std or 0.0)
        return torch.cat([action, clip(noisy, self.bounds)], -2)


def _sampling_network(policy: TensorDictModuleBase) -> StochasticPolicy | None:
    """Network of a frozen policy that can draw several actions at once."""
    module = policy.policy if isinstance(policy, FrozenPolicy) else None
    network = module.module if isinstance(module, TensorDictModule) else None
    return network if isinstance(network, StochasticPolicy) else None


class ActorProposal(TensorDictModuleBase):
    """Trained actor as a proposal: writes its action alone, under a key of its own.

    TorchRL's actors write ``"action"``, which is what the selector decides on.

    Args:
        actor: actor, a reference; stochastic actors are sampled under ``ExplorationType.RANDOM``.
        action_key: the actor's key of the action; None (default): its only key, or the sample of
            its distribution.
        out_key: key of the proposal, such as ``"rl_action"``.
    """

    def __init__(
        self, actor: TensorDictModuleBase, out_key: NestedKey, action_key: NestedKey | None = None
    ) -> None:
        super().__init__()
        self.action_key = require_action_output(actor, action_key)
        self.actor = actor
        self.in_keys = [*actor.in_keys]
        self.out_keys = [out_key]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the proposal [*, A]."""
        action = self.actor(tensordict.select(*self.in_keys)).get(self.action_key)
        return tensordict.set(self.out_keys[0], action)


def require_stateless(policy: nn.Module, name: NestedKey) -> None:
    """Check that a policy's action depends on the observation alone.

    Raises:
        ValueError: the policy is recurrent, or replays a chunk of actions.
    """
    part = stateful_part(policy)
    if part is not None:
        raise ValueError(
            f"proposal {name!r} contains {part}: its action depends on the episode, not on s' "
            "alone; store its actions with the transform CacheProposals and propose "
            f"CachedProposal({name!r})"
        )
