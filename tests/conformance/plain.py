"""Adapter of the plain PyTorch implementation of the benchmarks, without TorchRL.

It has no acting policy, so the checks of the choice while acting are not supported.
"""

from __future__ import annotations

import torch
from benchmarks.plain_ibrl import PlainIBRL
from torch import Tensor

from conformance.adapter import Batch, Implementation, Settings


class PlainImplementation(Implementation):
    """Updates of IBRL in plain PyTorch; always the minimum over two critics."""

    def __init__(self, settings: Settings) -> None:
        self.agent = PlainIBRL(
            settings.state_size,
            settings.action_size,
            hidden=[16],
            number=settings.num_critics,
            dropout=0.0,
            noise=0.0,
            gamma=settings.gamma,
            tau=settings.tau,
            lr=settings.learning_rate,
        )

    def propose(self, state: Tensor, *, target: bool = False) -> Tensor:
        actor = self.agent.target_actor if target else self.agent.actor
        return torch.stack([actor(state), self.agent.bc(state)], 1)

    def act(self, state: Tensor) -> Tensor:
        raise NotImplementedError

    def values(self, state: Tensor, action: Tensor, *, target: bool = False) -> Tensor:
        critics = self.agent.target_critics if target else self.agent.critics
        return critics(state, action).T

    def td_target(self, batch: Batch) -> Tensor:
        return self.agent.target(batch._asdict())

    def update(self, batch: Batch, *, actor: bool = False) -> None:
        self.agent.critic_update(batch._asdict())
        if actor:
            self.agent.actor_update(batch._asdict())

    def train(self) -> None:
        self.agent.actor.train()

    def parameters(self, name: str) -> list[Tensor]:
        networks = {"critics": "critics", "target_critics": "target_critics", "imitation": "bc"}
        return [*getattr(self.agent, networks[name]).parameters()]
