"""The yardstick: the update of Algorithm 1 in plain PyTorch, without TensorDict or TorchRL.

Same networks and the same arithmetic as the library's, written as a careful user would write them
by hand: a batched critic ensemble, only the drawn critics for the target, the value found while
choosing as the target value, fused Adam, fused target updates.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Critics(nn.Module):
    """E critics as one batched computation."""

    def __init__(self, inputs: int, hidden: list[int], number: int) -> None:
        super().__init__()
        sizes = [inputs, *hidden, 1]
        pairs = [*pairwise(sizes)]
        bound = [i**-0.5 for i, _ in pairs]
        self.weights = nn.ParameterList(
            torch.empty(number, i, o).uniform_(-b, b)
            for (i, o), b in zip(pairs, bound, strict=True)
        )
        self.biases = nn.ParameterList(
            torch.empty(number, 1, o).uniform_(-b, b)
            for (_, o), b in zip(pairs, bound, strict=True)
        )
        self.gains = nn.ParameterList(torch.ones(number, 1, h) for h in hidden)
        self.shifts = nn.ParameterList(torch.zeros(number, 1, h) for h in hidden)

    def forward(self, state: Tensor, action: Tensor, members: Tensor | None = None) -> Tensor:
        def take(parameter: Tensor) -> Tensor:
            return parameter if members is None else parameter[members]

        x = torch.cat([state, action], -1)
        x = x.expand(len(take(self.biases[0])), *x.shape)
        for i in range(len(self.gains)):
            x = torch.baddbmm(take(self.biases[i]), x, take(self.weights[i]))
            x = F.layer_norm(x, x.shape[-1:])
            x = F.relu(torch.addcmul(take(self.shifts[i]), x, take(self.gains[i])))
        return torch.baddbmm(take(self.biases[-1]), x, take(self.weights[-1])).squeeze(-1)


def policy(inputs: int, actions: int, hidden: list[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.Dropout(dropout), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, actions), nn.Tanh())


class PlainIBRL:
    """One critic update and one actor update."""

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
        self.number, self.gamma, self.tau = number, gamma, tau
        self.noise, self.clip = noise, clip

    def target(self, batch: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            state = batch["next_state"]
            proposed = self.target_actor(state)
            noise = (torch.randn_like(proposed) * self.noise).clamp(-self.clip, self.clip)
            actions = torch.stack([(proposed + noise).clamp(-1, 1), self.bc(state)], 1)
            states = state[:, None].expand(-1, 2, -1)
            members = torch.randperm(self.number)[:2] if self.number > 2 else None
            values = self.target_critics(states.flatten(0, 1), actions.flatten(0, 1), members)
            best = values.amin(0).view(-1, 2).amax(1)
            return batch["reward"] + self.gamma ** batch["steps"] * best * ~batch["terminated"]

    def critic_update(self, batch: dict[str, Tensor]) -> Tensor:
        target = self.target(batch)
        values = self.critics(batch["state"], batch["action"])
        loss = (values - target).pow(2).sum(0).mean()
        self._descend(self.critic_optimizer, loss)
        self._follow(self.target_critics, self.critics)
        return loss.detach()

    def actor_update(self, batch: dict[str, Tensor]) -> Tensor:
        action = self.actor(batch["state"])
        self.critics.requires_grad_(False)
        loss = -self.critics(batch["state"], action).amin(0).mean()
        self._descend(self.actor_optimizer, loss)
        self.critics.requires_grad_(True)
        self._follow(self.target_actor, self.actor)
        return loss.detach()

    def _descend(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def _follow(self, target: nn.Module, online: nn.Module) -> None:
        torch._foreach_lerp_([*target.parameters()], [*online.parameters()], self.tau)


class OriginalArithmetic(PlainIBRL):
    """The same numbers by the arithmetic of the original code.

    All critics value every action, the drawn ones are picked from their values; the chosen action
    is valued again for the target; the actor's update computes the critics' gradients, too, and
    nobody uses them. Optimisers and target updates go tensor by tensor.
    """

    def __init__(self, *arguments, **settings) -> None:
        super().__init__(*arguments, **settings)
        for name in ("critic_optimizer", "actor_optimizer"):
            groups = getattr(self, name).param_groups[0]
            slow = torch.optim.Adam(groups["params"], groups["lr"], foreach=False, fused=False)
            setattr(self, name, slow)

    def target(self, batch: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            state = batch["next_state"]
            proposed = self.target_actor(state)
            noise = (torch.randn_like(proposed) * self.noise).clamp(-self.clip, self.clip)
            proposals = [(proposed + noise).clamp(-1, 1), self.bc(state)]
            members = torch.randperm(self.number)[:2] if self.number > 2 else slice(None)
            values = torch.stack(
                [self.target_critics(state, action)[members].amin(0) for action in proposals]
            )
            chosen = torch.stack(proposals)[values.argmax(0), torch.arange(len(state))]
            best = self.target_critics(state, chosen)[members].amin(0)
            return batch["reward"] + self.gamma ** batch["steps"] * best * ~batch["terminated"]

    def actor_update(self, batch: dict[str, Tensor]) -> Tensor:
        action = self.actor(batch["state"])
        loss = -self.critics(batch["state"], action).amin(0).mean()
        self._descend(self.actor_optimizer, loss)
        self._follow(self.target_actor, self.actor)
        return loss.detach()

    @torch.no_grad()
    def _follow(self, target: nn.Module, online: nn.Module) -> None:
        for mine, theirs in zip(target.parameters(), online.parameters(), strict=True):
            mine.copy_((1 - self.tau) * mine + self.tau * theirs)
