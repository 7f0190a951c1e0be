"""Policies that never change, and copies that share their tensors."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class FrozenPolicy(TensorDictModuleBase):
    """A policy that proposes actions and is never trained again.

    It stays in eval mode whatever its parents do (dropout off), gives no gradient to anything,
    and belongs to no optimiser, but moves with ``.to()`` and is saved with the module it is in.

    Args:
        policy: TensorDict module writing actions in [-1, 1]. It is taken over: its parameters stop
            requiring gradients.

    Raises:
        ValueError: the policy does not write exactly one key.
    """

    def __init__(self, policy: TensorDictModuleBase) -> None:
        super().__init__()
        if len(policy.out_keys) != 1:
            raise ValueError(f"a policy writes one key, its action; got {policy.out_keys}")
        self.in_keys = policy.in_keys
        self.out_keys = policy.out_keys
        self.policy = policy.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> FrozenPolicy:
        """Stay in eval mode, whatever is asked."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the proposal [*, A]."""
        return self.policy(tensordict)


class CachedProposal(TensorDictModuleBase):
    """A frozen policy's action that the batch already holds.

    What a frozen policy proposes at an observation never changes, so a replay can keep it
    (``CacheProposals``) and updates need not run the policy again: with a ResNet-18 that is most
    of their cost.

    Args:
        key: where the action is, such as ``"bc_action"``.
    """

    def __init__(self, key: str) -> None:
        super().__init__()
        self.in_keys = [key]
        self.out_keys = [key]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Leave the proposal [*, A] where it is."""
        return tensordict


def tied_copy(module: ModuleT) -> ModuleT:
    """Copy a module but not its tensors.

    The twin has train and eval flags of its own and sees every in-place update of the original's
    parameters. A loss keeps dropout on in the same networks that the twin acts with, dropout off.

    Example:
        >>> import torch
        >>> actor = torch.nn.Linear(3, 2)
        >>> twin = tied_copy(actor).eval()
        >>> actor.training, twin.training, twin.weight is actor.weight
        (True, False, True)
    """
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
