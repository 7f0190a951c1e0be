"""Target updates at IBRL's two rates."""

from __future__ import annotations

import torch
from torchrl.objectives import LossModule, SoftUpdate


class PartialSoftUpdate(SoftUpdate):
    """TorchRL's ``SoftUpdate`` for some of a loss's networks.

    ``SoftUpdate`` moves all targets at once. In IBRL the critic targets move after each of the G
    critic updates of a round, the actor target once a round (paper, Algorithm 1).

    Args:
        loss: owner of the networks and their targets.
        *networks: names such as ``"qvalue_network"``.
        tau: share of the online parameters in each step; the paper's EMA of 0.99 is tau = 0.01.

    Raises:
        ValueError: the loss has no target of that name.

    As in TorchRL, construction sets the targets to the online parameters.
    """

    def __init__(self, loss: LossModule, *networks: str, tau: float) -> None:
        names = {f"target_{network}_params" for network in networks}
        present = {name for name, _ in loss.named_children()}
        if not names or not names <= present:
            raise ValueError(f"the loss has no targets {sorted(names - present)}")
        super().__init__(loss, tau=tau)
        self._target_names = sorted(names)
        self._source_names = [name.removeprefix("target_") for name in self._target_names]
        self._targets = self._targets.select(*self._target_names).lock_()
        self._sources = self._sources.select(*self._source_names).lock_()

    @torch.no_grad()
    def step(self) -> None:
        """Move the targets by tau, in one fused call instead of one a tensor."""
        sources = self._sources.values(include_nested=True, leaves_only=True)
        targets = self._targets.values(include_nested=True, leaves_only=True)
        torch._foreach_lerp_([*targets], [*sources], 1 - self.eps)
