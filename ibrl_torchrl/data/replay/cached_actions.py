"""What a frozen policy proposes, kept beside the observations."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.envs.transforms import Transform

from ibrl_torchrl.keys import NEXT


class CacheProposals(Transform):
    """Write-side transform: write a frozen policy's action for each observation of an episode.

    The loss then takes the action at s' from the batch (``CachedProposal``) and updates run the
    policy no more. It belongs last in a buffer's ``Compose``, since inverse transforms begin there,
    and its key among the kept ones of ``EpisodeToTransitions``.

    Args:
        policy: a frozen policy in eval mode; writes one key.
    """

    def __init__(self, policy: TensorDictModuleBase) -> None:
        super().__init__()
        # The policy is not this transform's to save, move or train.
        self.__dict__["policy"] = policy

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Leave samples as they are."""
        return tensordict

    @torch.no_grad()
    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        policy, key = self.__dict__["policy"], self.__dict__["policy"].out_keys[0]
        parameter = next(policy.parameters(), None)
        device = tensordict.device if parameter is None else parameter.device
        seen = tensordict.select(*policy.in_keys)
        last = tensordict.get(NEXT)[-1:].select(*policy.in_keys)
        actions = policy(torch.cat([seen, last]).to(device)).get(key)
        actions = actions.to(tensordict.get(policy.in_keys[0]).device)
        return tensordict.set(key, actions[:-1]).set((NEXT, key), actions[1:])
