"""Write-side transform that caches the actions of frozen policies."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.envs.transforms import Transform

from ibrl_torchrl.keys import NEXT


class CacheProposals(Transform):
    """Write-side transform that stores a frozen policy's action for each observation.

    The loss then reads the action at s' from the batch (``CachedProposal``) instead of evaluating
    the policy in every update. It comes last in a buffer's ``Compose``, whose inverse runs from the
    last to the first, and its key is among the ``observation_keys`` of ``EpisodeToTransitions``.
    Several policies with different keys take one transform each.

    Args:
        policy: frozen policy in eval mode; reads observations and writes one key, float32 [*, A],
            such as ``"bc_action"``.

    Example:
        >>> import torch
        >>> from tensordict.nn import TensorDictModule
        >>> from torchrl.envs.transforms import Compose
        >>> from ibrl_torchrl.data.replay import CacheProposals, EpisodeToTransitions
        >>> from ibrl_torchrl.modules import FrozenPolicy
        >>> policy = FrozenPolicy(TensorDictModule(torch.nn.Linear(4, 2), ["state"], ["bc_action"]))
        >>> transform = Compose(
        ...     EpisodeToTransitions(["state", "bc_action"]), CacheProposals(policy)
        ... )
    """

    def __init__(self, policy: TensorDictModuleBase) -> None:
        super().__init__()
        # In __dict__, so that the policy is no submodule: it is saved, moved and trained elsewhere.
        self.__dict__["policy"] = policy

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Return samples unchanged."""
        return tensordict

    @torch.no_grad()
    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        policy = self.__dict__["policy"]
        key = policy.out_keys[0]
        parameter = next(policy.parameters(), None)
        device = tensordict.device if parameter is None else parameter.device
        observations = tensordict.select(*policy.in_keys)
        last = tensordict.get(NEXT)[-1:].select(*policy.in_keys)
        actions = policy(torch.cat([observations, last]).to(device)).get(key)
        actions = actions.to(tensordict.get(policy.in_keys[0]).device)
        return tensordict.set(key, actions[:-1]).set((NEXT, key), actions[1:])
