"""Adapters of https://github.com/irom-princeton/dppo at commit cc7234a.

PYTHONPATH: a checkout of the repository. Commands::

    cd tests && PYTHONPATH=CHECKOUT python -m conformance conformance.published.dppo:DPPO
    cd tests && PYTHONPATH=CHECKOUT python -m conformance conformance.published.dppo:DPPOOwnActor

``DPPO`` is the code as published: RL actor, target actor and imitation policy start as copies of
one network, here with random weights. ``DPPOOwnActor`` gives the RL actor weights of its own, so
that the checks can tell the proposals apart.

Optimisers and order of updates are those of ``agent/finetune/train_ibrl_agent.py``. As there, the
critic loss gets ``terminated`` without ``truncated``. RL actor and imitation policy have the same
layers, hence the same dropout. Actions have no noise by ``randn_clip_value=0``. Not supported:
epsilon mode, transitions of several steps, subsets of another size than two.

Stubs: ``einops``, which networks for images use.
"""

from __future__ import annotations

from unittest.mock import patch

import torch
from torch import Tensor, nn

from conformance.adapter import Batch, Implementation, Settings
from conformance.published import stubs

with stubs("einops"):
    from model.common.critic import CriticObsAct
    from model.common.gaussian import GaussianModel
    from model.common.mlp_gaussian import Gaussian_MLP
    from model.rl.gaussian_ibrl import IBRL_Gaussian


class DPPO(Implementation):
    """``IBRL_Gaussian`` from states; networks of the files ``ibrl_mlp.yaml``, but small."""

    def __init__(self, settings: Settings) -> None:
        if settings.mode == "epsilon" or settings.num_min != 2:
            raise NotImplementedError
        actor = Gaussian_MLP(
            action_dim=settings.action_size,
            horizon_steps=1,
            cond_dim=settings.state_size,
            mlp_dims=[16],
            activation_type="ReLU",
            dropout=0.5,
            fixed_std=0.1,
        )
        critic = CriticObsAct(
            cond_dim=settings.state_size,
            mlp_dims=[32, 32],
            action_dim=settings.action_size,
            activation_type="ReLU",
            use_layernorm=True,
            double_q=False,
        )
        self.settings = settings
        self.model = IBRL_Gaussian(
            actor,
            critic,
            settings.num_critics,
            soft_action_sample=settings.mode == "soft",
            soft_action_sample_beta=settings.beta,
            horizon_steps=1,
            device="cpu",
            randn_clip_value=0,
        )
        self.model.eval()
        rates = {"lr": settings.learning_rate, "weight_decay": 0.0}
        self.critic_optimizer = torch.optim.AdamW(self.model.ensemble_params.values(), **rates)
        self.actor_optimizer = torch.optim.AdamW(self.model.network.parameters(), **rates)

    def propose(self, state: Tensor, *, target: bool = False) -> Tensor:
        actor = self.model.target_actor if target else self.model.network
        actions = [
            GaussianModel.forward(self.model, {"state": state}, network_override=network)
            for network in (actor, self.model.bc_policy)
        ]
        return torch.cat(actions, 1)

    def act(self, state: Tensor) -> Tensor:
        return self.model({"state": state})[:, 0]

    def values(self, state: Tensor, action: Tensor, *, target: bool = False) -> Tensor:
        model, data = self.model, ({"state": state}, action)
        if target:
            return torch.stack([critic(*data) for critic in model.target_networks], -1)
        ensemble = torch.vmap(model.critic_wrapper, in_dims=(0, 0, None))
        return ensemble(model.ensemble_params, model.ensemble_buffers, data).T

    def td_target(self, batch: Batch) -> Tensor:
        values = torch.zeros(len(batch.reward), requires_grad=True)
        with patch.object(self.model, "critic_wrapper", lambda *_: values):
            loss = self._critic_loss(batch)
        (gradient,) = torch.autograd.grad(loss, values)
        return -gradient * len(values) / 2

    def update(self, batch: Batch, *, actor: bool = False) -> None:
        self._step(self.critic_optimizer, self._critic_loss(batch))
        self.model.update_target_critic(self.settings.tau)
        if actor:
            self._step(self.actor_optimizer, self.model.loss_actor({"state": batch.state}))
            self.model.update_target_actor(self.settings.tau)

    def train(self) -> None:
        self.model.train()

    def parameters(self, name: str) -> list[Tensor]:
        if name == "imitation":
            return [*self.model.bc_policy.parameters()]
        if name == "target_critics":
            return [*self.model.target_networks.parameters()]
        stacked = self.model.ensemble_params.values()
        return [value[i] for i in range(self.settings.num_critics) for value in stacked]

    def _critic_loss(self, batch: Batch) -> Tensor:
        if (batch.steps != 1).any():
            raise NotImplementedError
        return self.model.loss_critic(
            {"state": batch.state},
            {"state": batch.next_state},
            batch.action,
            batch.reward,
            batch.terminated.float(),
            self.settings.gamma,
        )

    @staticmethod
    def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class DPPOOwnActor(DPPO):
    """The same with an RL actor that does not start as the imitation policy."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        for module in self.model.network.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
        self.model.target_actor.load_state_dict(self.model.network.state_dict())
