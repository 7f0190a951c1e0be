"""Soft updates of the target parameters of selected networks."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torchrl.objectives import LossModule, SoftUpdate


class PartialSoftUpdate(SoftUpdate):
    """``SoftUpdate`` of some of a loss's target networks: Polyak averaging with rate ``tau``.

    TorchRL's ``SoftUpdate`` updates all targets at once. In IBRL the critic targets are updated
    after each of the G critic updates of a round, the actor target once per round
    (arXiv 2311.02198, Algorithm 1). As in TorchRL, construction sets the targets to the online
    parameters.

    Args:
        loss: owner of the networks and their targets.
        *networks: names such as ``"qvalue_network"``; at least one.
        tau: weight of the online parameters in each step; the paper's EMA of 0.99 is tau = 0.01.

    Raises:
        ValueError: no network is named, or the loss has no target of that name.
    """

    _targets: TensorDictBase
    _sources: TensorDictBase

    def __init__(self, loss: LossModule, *networks: str, tau: float) -> None:
        if not networks:
            raise ValueError("networks must name at least one network of the loss")
        names = {f"target_{network}_params" for network in networks}
        missing = names - {name for name, _ in loss.named_children()}
        if missing:
            raise ValueError(f"the loss has no targets {sorted(missing)}")
        super().__init__(loss, tau=tau)
        self._target_names = sorted(names)
        self._source_names = [name.removeprefix("target_") for name in self._target_names]
        self._targets = self._targets.select(*self._target_names).lock_()
        self._sources = self._sources.select(*self._source_names).lock_()

    @torch.no_grad()
    def step(self) -> None:
        """Update the targets, in one fused call instead of one per tensor."""
        sources = self._sources.values(include_nested=True, leaves_only=True)
        targets = self._targets.values(include_nested=True, leaves_only=True)
        torch._foreach_lerp_([*targets], [*sources], 1 - self.eps)
