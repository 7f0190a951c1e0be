"""Adapter of this package: IBRLSelector while acting, IBRLTD3Loss for targets and updates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Tensor
from torchrl.objectives import SoftUpdate

import ibrl_torchrl as ibrl
from conformance.adapter import Batch, Implementation, Settings


class TorchRLImplementation(Implementation):
    """IBRL with one imitation policy, from states."""

    def __init__(self, settings: Settings) -> None:
        size = settings.action_size
        scale, imitation_scale = (ibrl.Normalize.identity(settings.state_size) for _ in range(2))
        actor = ibrl.StateActor(scale, size, hidden=[16], dropout=0.0)
        imitation = ibrl.StateActor(imitation_scale, size, hidden=[16], dropout=0.5)
        critics = ibrl.StateCriticEnsemble(
            scale, size, num_critics=settings.num_critics, hidden=[32]
        )
        self.settings = settings
        self.actor = TensorDictModule(actor, ["state"], ["rl_action"])
        self.imitation = ibrl.FrozenPolicy(TensorDictModule(imitation, ["state"], ["bc_action"]))
        self.critic = ibrl.CriticEnsemble(critics, ["state", "action"])
        self.loss = ibrl.IBRLTD3Loss(
            self.actor, self.critic, [self.imitation], num_min=settings.num_min, policy_noise=0.0
        ).make_value_estimator(gamma=settings.gamma)
        self.targets = SoftUpdate(self.loss, tau=settings.tau)
        trained = [p for p in self.loss.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=settings.learning_rate)
        choice = {name: getattr(settings, name) for name in ("mode", "beta", "epsilon", "num_min")}
        selector = ibrl.IBRLSelector(self.critic, **choice)
        self.policy = TensorDictSequential(self.actor, self.imitation, selector)

    def propose(self, state: Tensor, *, target: bool = False) -> Tensor:
        td = TensorDict(state=state, batch_size=[len(state)])
        with self._networks(target):
            self.imitation(self.actor(td))
        return torch.stack([td["rl_action"], td["bc_action"]], 1)

    def act(self, state: Tensor) -> Tensor:
        return self.policy(TensorDict(state=state, batch_size=[len(state)]))["action"]

    def values(self, state: Tensor, action: Tensor, *, target: bool = False) -> Tensor:
        td = TensorDict(state=state, action=action, batch_size=[len(state)])
        with self._networks(target):
            return self.critic(td)["state_action_value"]

    def td_target(self, batch: Batch) -> Tensor:
        return self.loss.qvalue_loss(self._tensordict(batch))[1]["target_value"].squeeze(-1)

    def update(self, batch: Batch, *, actor: bool = False) -> None:
        td = self._tensordict(batch)
        self.optimizer.zero_grad()
        self.loss.qvalue_loss(td)[0].backward()
        if actor:
            self.loss.actor_loss(td)[0].backward()
        self.optimizer.step()
        self.targets.step()

    def train(self) -> None:
        self.loss.train()
        self.policy.train()

    def parameters(self, name: str) -> list[Tensor]:
        if name == "imitation":
            return [*self.imitation.parameters()]
        online, target = self.loss.qvalue_network_params, self.loss.target_qvalue_network_params
        values = online if name == "critics" else target
        leaves = online.items(include_nested=True, leaves_only=True)
        return [values[key] for key, value in leaves if value.requires_grad]

    @contextmanager
    def _networks(self, target: bool) -> Iterator[None]:
        """Context in which actor and critic have the target parameters, if ``target``."""
        if not target:
            yield
            return
        actor, critics = (
            self.loss.target_actor_network_params,
            self.loss.target_qvalue_network_params,
        )
        with (
            actor.to_module(self.actor, preserve_module_state=False),
            critics.to_module(self.critic, preserve_module_state=False),
        ):
            yield

    @staticmethod
    def _tensordict(batch: Batch) -> TensorDict:
        """The batch with the package's keys."""
        fields = {name: value[:, None] for name, value in batch._asdict().items()}
        ends = {name: fields[name] for name in ("reward", "terminated", "truncated")}
        ends["done"] = ends["terminated"] | ends["truncated"]
        return TensorDict(
            {
                "state": batch.state,
                "action": batch.action,
                "steps_to_next_obs": fields["steps"],
                "next": {"state": batch.next_state, **ends},
            },
            batch_size=[len(batch.reward)],
        )
