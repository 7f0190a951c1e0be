"""Frozen policies, cached proposals, and weight-sharing copies."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class FrozenPolicy(TensorDictModuleBase):
    """Policy without gradients, permanently in eval mode.

    ``train()`` of a parent module does not reach it, so dropout stays off. Its parameters require
    no gradients. As a submodule it moves with ``.to()`` and is part of the ``state_dict``.

    Args:
        policy: TensorDict module that writes actions float [*, A] in [-1, 1]. Its parameters are
            set to ``requires_grad=False`` in place.

    Raises:
        ValueError: the policy does not write exactly one key.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> bc = FrozenPolicy(TensorDictModule(torch.nn.Linear(3, 2), ["state"], ["bc_action"]))
        >>> bc(TensorDict(state=torch.zeros(3)))["bc_action"].requires_grad
        False
        >>> torch.nn.ModuleList([bc]).train()[0].training
        False
    """

    def __init__(self, policy: TensorDictModuleBase) -> None:
        super().__init__()
        if len(policy.out_keys) != 1:
            raise ValueError(f"a policy must write one key, its action; got {policy.out_keys}")
        self.in_keys = policy.in_keys
        self.out_keys = policy.out_keys
        self.policy = policy.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> FrozenPolicy:
        """Stay in eval mode; ``mode`` has no effect."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the proposal [*, A]."""
        return self.policy(tensordict)


class CachedProposal(TensorDictModuleBase):
    """Proposal whose action is already in the batch.

    A frozen policy's action at an observation never changes. A replay buffer can store it
    (:class:`~ibrl_torchrl.data.replay.CacheProposals`), so that updates do not run the policy
    again; with a ResNet-18 its forward pass takes most of an update's time.

    Args:
        key: key of the action, such as ``"bc_action"``.
    """

    def __init__(self, key: str) -> None:
        super().__init__()
        self.in_keys = [key]
        self.out_keys = [key]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Return the batch, which contains the proposal [*, A]."""
        return tensordict


def tied_copy(module: ModuleT) -> ModuleT:
    """Weight-sharing copy of a module: new modules, the same parameters and buffers.

    Train and eval flags are independent, while in-place updates of parameters reach both. With it a
    policy acts without dropout on the networks that a loss trains with dropout.

    Args:
        module: module to copy.

    Returns:
        A module of the same type.

    Example:
        >>> import torch
        >>> actor = torch.nn.Linear(3, 2)
        >>> acting = tied_copy(actor).eval()
        >>> actor.training, acting.training, acting.weight is actor.weight
        (True, False, True)
    """
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
