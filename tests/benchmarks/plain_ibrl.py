"""Baseline: updates of Algorithm 1 (arXiv 2311.02198) in plain PyTorch, without TorchRL.

Networks and arithmetic are the library's: a batched critic ensemble, evaluation of the sampled
critics alone for the target, the selected proposal's value as target value, fused Adam, and fused
target updates.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Critics(nn.Module):
    """Ensemble of E critics, computed in one batch."""

    def __init__(self, in_features: int, hidden: list[int], num_critics: int) -> None:
        super().__init__()
        sizes = [in_features, *hidden, 1]
        pairs = [*pairwise(sizes)]
        bound = [i**-0.5 for i, _ in pairs]
        self.weights = nn.ParameterList(
            torch.empty(num_critics, i, o).uniform_(-b, b)
            for (i, o), b in zip(pairs, bound, strict=True)
        )
        self.biases = nn.ParameterList(
            torch.empty(num_critics, 1, o).uniform_(-b, b)
            for (_, o), b in zip(pairs, bound, strict=True)
        )
        self.gains = nn.ParameterList(torch.ones(num_critics, 1, h) for h in hidden)
        self.shifts = nn.ParameterList(torch.zeros(num_critics, 1, h) for h in hidden)

    def forward(self, state: Tensor, action: Tensor, members: Tensor | None = None) -> Tensor:
        def select(parameter: Tensor) -> Tensor:
            return parameter if members is None else parameter[members]

        x = torch.cat([state, action], -1)
        x = x.expand(len(select(self.biases[0])), *x.shape)
        for i in range(len(self.gains)):
            x = torch.baddbmm(select(self.biases[i]), x, select(self.weights[i]))
            x = F.layer_norm(x, x.shape[-1:])
            x = F.relu(torch.addcmul(select(self.shifts[i]), x, select(self.gains[i])))
        return torch.baddbmm(select(self.biases[-1]), x, select(self.weights[-1])).squeeze(-1)


def policy(in_features: int, action_size: int, hidden: list[int], dropout: float) -> nn.Sequential:
    """Policy network: an MLP with dropout and tanh."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(in_features, width), nn.Dropout(dropout), nn.ReLU()]
        in_features = width
    return nn.Sequential(*layers, nn.Linear(in_features, action_size), nn.Tanh())


class PlainIBRL:
    """Critic and actor updates of IBRL with TD3."""

    def __init__(
        self,
        state_size: int = 39,
        action_size: int = 4,
        *,
        hidden: list[int],
        number: int,
        dropout: float = 0.5,
        gamma: float = 0.99,
        tau: float = 0.01,
        lr: float = 3e-4,
        noise: float = 0.1,
        clip: float = 0.3,
    ) -> None:
        self.actor = policy(state_size, action_size, hidden, dropout)
        self.bc = policy(state_size, action_size, hidden, 0.0).requires_grad_(False).eval()
        self.critics = Critics(state_size + action_size, hidden, number)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr, fused=True)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr, fused=True)
        self.num_critics, self.gamma, self.tau = number, gamma, tau
        self.noise, self.clip = noise, clip

    def to(self, device: torch.device) -> PlainIBRL:
        """Move all networks; optimisers keep their parameters, which move in place."""
        for name in ("actor", "bc", "critics", "target_actor", "target_critics"):
            getattr(self, name).to(device)
        return self

    def target(self, batch: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            state = batch["next_state"]
            rl_action = self.target_actor(state)
            noise = (torch.randn_like(rl_action) * self.noise).clamp(-self.clip, self.clip)
            actions = torch.stack([(rl_action + noise).clamp(-1, 1), self.bc(state)], 1)
            states = state[:, None].expand(-1, 2, -1)
            members = None
            if self.num_critics > 2:
                members = torch.randperm(self.num_critics, device=state.device)[:2]
            values = self.target_critics(states.flatten(0, 1), actions.flatten(0, 1), members)
            best = values.amin(0).view(-1, 2).amax(1)
            return batch["reward"] + self.gamma ** batch["steps"] * best * ~batch["terminated"]

    def critic_update(self, batch: dict[str, Tensor]) -> Tensor:
        target = self.target(batch)
        values = self.critics(batch["state"], batch["action"])
        loss = (values - target).pow(2).sum(0).mean()
        self._step(self.critic_optimizer, loss)
        self._soft_update(self.target_critics, self.critics)
        return loss.detach()

    def actor_update(self, batch: dict[str, Tensor]) -> Tensor:
        action = self.actor(batch["state"])
        self.critics.requires_grad_(False)
        loss = -self.critics(batch["state"], action).amin(0).mean()
        self._step(self.actor_optimizer, loss)
        self.critics.requires_grad_(True)
        self._soft_update(self.target_actor, self.actor)
        return loss.detach()

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def _soft_update(self, target: nn.Module, online: nn.Module) -> None:
        torch._foreach_lerp_([*target.parameters()], [*online.parameters()], self.tau)


class OriginalArithmetic(PlainIBRL):
    """The same numbers by the arithmetic of the original code.

    All critics evaluate every action, and the sampled ones are selected from their values; the
    selected action is evaluated again for the target; the actor update also computes gradients of
    the critics, which are not used. Optimisers and target updates loop over tensors.
    """

    def __init__(self, *arguments, **settings) -> None:
        super().__init__(*arguments, **settings)
        for name in ("critic_optimizer", "actor_optimizer"):
            group = getattr(self, name).param_groups[0]
            optimizer = torch.optim.Adam(group["params"], group["lr"], foreach=False, fused=False)
            setattr(self, name, optimizer)

    def target(self, batch: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            state = batch["next_state"]
            rl_action = self.target_actor(state)
            noise = (torch.randn_like(rl_action) * self.noise).clamp(-self.clip, self.clip)
            proposals = [(rl_action + noise).clamp(-1, 1), self.bc(state)]
            members = torch.randperm(self.num_critics)[:2] if self.num_critics > 2 else slice(None)
            values = torch.stack(
                [self.target_critics(state, action)[members].amin(0) for action in proposals]
            )
            chosen = torch.stack(proposals)[values.argmax(0), torch.arange(len(state))]
            best = self.target_critics(state, chosen)[members].amin(0)
            return batch["reward"] + self.gamma ** batch["steps"] * best * ~batch["terminated"]

    def actor_update(self, batch: dict[str, Tensor]) -> Tensor:
        action = self.actor(batch["state"])
        loss = -self.critics(batch["state"], action).amin(0).mean()
        self._step(self.actor_optimizer, loss)
        self._soft_update(self.target_actor, self.actor)
        return loss.detach()

    @torch.no_grad()
    def _soft_update(self, target: nn.Module, online: nn.Module) -> None:
        for old, new in zip(target.parameters(), online.parameters(), strict=True):
            old.copy_((1 - self.tau) * old + self.tau * new)
