"""The loss of regularised fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor

from ibrl_torchrl import keys
from ibrl_torchrl.modules import CachedProposal, CriticEnsemble, FrozenPolicy, tied_copy
from ibrl_torchrl.objectives.ibrl_td3 import IBRLTD3Loss


class BCRegularizedTD3Loss(IBRLTD3Loss):
    """TD3 whose actor loss holds on to demonstrations: RFT, or Pt-Ft in the paper's appendix A.

    To the actor loss of :class:`IBRLTD3Loss` comes alpha * lambda * E ||a - pi(s)||^2 over the
    demonstrations (equation 3), with dropout in pi as in the rest of the loss. lambda is 1, or
    with a ``reference`` the share of the batch's states s where the reference's action scores
    higher than the actor's, by the minimum of all critics (the soft Q-filter, equation 4); both
    act without noise and dropout there.

    A batch [B] carries demonstration transitions [B] under ``"demo"``, where
    ``ReplayWithDemos`` puts them. From pixels they are encoded without a gradient, as all
    features of the actor are.

    Args:
        actor_network, qvalue_network, proposals: as for :class:`IBRLTD3Loss`.
        bc_weight: alpha, above 0.
        reference: the policy that the actor started as, for the soft Q-filter; None (default) for
            lambda = 1.
        settings: everything else that :class:`IBRLTD3Loss` takes.

    The diagnostics of the actor loss gain ``bc_loss``, E ||a - pi(s)||^2, and ``bc_share``, lambda.

    Raises:
        ValueError: ``bc_weight`` is not above 0, or as :class:`IBRLTD3Loss` does.
    """

    out_keys = [*IBRLTD3Loss.out_keys, "bc_loss", "bc_share"]

    def __init__(
        self,
        actor_network: TensorDictModuleBase,
        qvalue_network: CriticEnsemble,
        proposals: Sequence[FrozenPolicy | CachedProposal] = (),
        *,
        bc_weight: float = 0.1,
        reference: FrozenPolicy | None = None,
        **settings: Any,
    ) -> None:
        if bc_weight <= 0:
            raise ValueError(f"bc_weight={bc_weight} must be above 0")
        super().__init__(actor_network, qvalue_network, proposals, **settings)
        self.bc_weight = bc_weight
        self.reference = reference
        # Kept out of the registered children: its parameters are this loss's, given on each use.
        self.__dict__["_eval_actor"] = tied_copy(actor_network).eval()

    def _keys_read(self) -> list[NestedKey]:
        demos = [(keys.DEMO, key) for key in [self.tensor_keys.action, *self._keys_now]]
        held = [] if self.reference is None else self.reference.in_keys
        return [*dict.fromkeys([*super()._keys_read(), *held, *demos])]

    def actor_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """Actor loss of a batch [B] and of its demonstrations [B]."""
        loss, info = super().actor_loss(tensordict)
        distance = self._distance(tensordict.get(keys.DEMO))
        share = self._share(tensordict)
        info |= {"bc_loss": distance.detach(), "bc_share": share}
        return loss + self.bc_weight * share * distance, info

    def _distance(self, demos: TensorDictBase) -> Tensor:
        """E ||a - pi(s)||^2."""
        action = self._act(self.actor_network, self._encoded(demos))
        return (action - demos.get(self.tensor_keys.action)).pow(2).sum(-1).mean()

    @torch.no_grad()
    def _share(self, tensordict: TensorDictBase) -> Tensor:
        """lambda."""
        if self.reference is None:
            return torch.ones((), device=tensordict.device)
        seen = self._encoded(tensordict)
        own = self._act(self._eval_actor, seen)
        held = self.reference(tensordict.select(*self.reference.in_keys))
        held = held.get(self.reference.out_keys[0])
        return (self._min_q(seen, held) > self._min_q(seen, own)).float().mean()
