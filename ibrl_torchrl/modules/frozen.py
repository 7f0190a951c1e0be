"""Frozen policies, cached proposals, and weight-sharing copies."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import nn
from torchrl.modules import GRUModule, LSTMModule, MultiStepActorWrapper

from ibrl_torchrl.modules.chunks import ChunkExecutor

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class FrozenPolicy(TensorDictModuleBase):
    """Policy without gradients, permanently in eval mode.

    ``train()`` of a parent module does not reach it, so dropout stays off. Its parameters require
    no gradients. As a submodule it moves with ``.to()`` and is part of the ``state_dict``. It
    writes its action alone, also where the policy writes more, such as a distribution's parameters;
    a recurrent policy's states are written too, so that it can act.

    A stochastic policy (``ProbabilisticActor``) is sampled under ``ExplorationType.RANDOM``, as in
    collectors and TD targets, and takes its mode under ``DETERMINISTIC``.

    Args:
        policy: TensorDict module that writes actions float [*, A]. Its parameters are set to
            ``requires_grad=False`` in place.
        action_key: the policy's key of the action; None (default): its only key, or the sample of
            its distribution.
        out_key: key to write, such as ``"bc_action"``; None (default): ``action_key``.

    Raises:
        TypeError: the policy is no TensorDict module.
        ValueError: the policy writes several keys and ``action_key`` names none of them.

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

    def __init__(
        self,
        policy: TensorDictModuleBase,
        *,
        action_key: NestedKey | None = None,
        out_key: NestedKey | None = None,
    ) -> None:
        super().__init__()
        self.action_key = require_action_output(policy, action_key)
        self.in_keys = [*policy.in_keys]
        self.out_keys = [out_key or self.action_key]
        if stateful_part(policy) is not None:
            self.out_keys += [key for key in policy.out_keys if key != self.action_key]
        self._passes_on = {*policy.out_keys} == {*self.out_keys}
        self.policy = policy.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> FrozenPolicy:
        """Stay in eval mode; ``mode`` has no effect."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the proposal [*, A]."""
        # A copy, in which the rest of the policy's output stays; and a whole one, since policies
        # with a state read optional keys, such as `is_init`, that are not among their in_keys.
        output = self.policy(tensordict if self._passes_on else tensordict.copy())
        if output is tensordict:
            return tensordict
        for key in self.out_keys[1:]:
            tensordict.set(key, output.get(key))
        return tensordict.set(self.out_keys[0], output.get(self.action_key))


def stateful_part(policy: nn.Module) -> str | None:
    """Class of a part that makes a policy's action depend on more than the current observation.

    Returns:
        The class of a recurrent network or of a queue of actions; None for other policies.
    """
    for module in policy.modules():
        recurrent = isinstance(module, nn.RNNBase | nn.RNNCellBase | LSTMModule | GRUModule)
        if recurrent or isinstance(module, MultiStepActorWrapper | ChunkExecutor):
            return type(module).__name__
    return None


def require_action_output(
    policy: TensorDictModuleBase, action_key: NestedKey | None = None
) -> NestedKey:
    """Key of the action that a policy writes.

    Args:
        policy: policy.
        action_key: its key; None (default): its only key, or the sample of its distribution.

    Raises:
        TypeError: the policy is no TensorDict module.
        ValueError: the key is not written, or there are several and none is named.
    """
    if not isinstance(policy, TensorDictModuleBase):
        raise TypeError(
            f"a policy must be a TensorDict module, got {type(policy).__name__}; wrap a network: "
            'TensorDictModule(network, ["state"], ["bc_action"])'
        )
    if action_key is None:
        samples = [*getattr(policy, "dist_sample_keys", ())] or [*policy.out_keys]
        if len(samples) != 1:
            raise ValueError(
                f"a policy must write one key, its action; got {samples}; name it by action_key=..."
            )
        return samples[0]
    if action_key not in policy.out_keys:
        raise ValueError(f"action_key {action_key!r} is not among the keys {[*policy.out_keys]}")
    return action_key


class CachedProposal(TensorDictModuleBase):
    """Proposal whose action is already in the batch.

    A frozen policy's action at an observation never changes. A replay buffer can store it
    (:class:`~ibrl_torchrl.data.replay.CacheProposals`), so that updates do not run the policy
    again; with a ResNet-18 its forward pass takes most of an update's time.

    Args:
        key: key of the action, such as ``"bc_action"``.
    """

    def __init__(self, key: NestedKey) -> None:
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
