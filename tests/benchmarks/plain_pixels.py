"""Baseline: updates of IBRL from pixels in plain PyTorch, with a loss's own networks.

The imitation policy's action is in the batch; a batch has images, proprioception and both of s'.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

IMAGE, PROPRIO = "corner2_image", "proprio"


class PlainPixels:
    """Critic and actor updates of IBRL with TD3 from pixels.

    Args:
        loss: ``IBRLTD3Loss`` with an encoder, whose networks are copied.
        proprio: the networks read proprioception.
        lr: learning rate.
        tau: step of the targets' moving averages.
        gamma: discount.
    """

    def __init__(
        self, loss: Any, *, proprio: bool, lr: float = 1e-4, tau: float = 0.01, gamma: float = 0.99
    ) -> None:
        self.encoder: nn.Module = copy.deepcopy(loss.encoder.module)
        self.actor: nn.Module = copy.deepcopy(loss.actor_network.module)
        self.critics: nn.Module = copy.deepcopy(loss.qvalue_network.module)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        of_critics = [*self.encoder.parameters(), *self.critics.parameters()]
        self.critic_optimizer = torch.optim.Adam(of_critics, lr, fused=True)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr, fused=True)
        self.noise, self.clip, self.num_min = loss.policy_noise, loss.noise_clip, loss.num_min
        self.proprio, self.tau, self.gamma = proprio, tau, gamma
        self._features: Tensor | None = None

    def critic_update(self, batch: TensorDictBase) -> Tensor:
        """Update encoder and critics, and their targets."""
        target = self._target(batch)
        features = self.encoder(batch[IMAGE])
        self._features = features.detach()
        values = self.critics(features, *self._extras(batch), batch["action"])
        loss = (values - target).pow(2).sum(-1).mean()
        self._step(self.critic_optimizer, loss)
        self._soft_update(self.target_critics, self.critics)
        return loss.detach()

    def actor_update(self, batch: TensorDictBase) -> Tensor:
        """Update the actor and its target; reuses the features of the critic update."""
        extras = self._extras(batch)
        action = self.actor(self._features, *extras)
        self.critics.requires_grad_(False)
        loss = -self.critics(self._features, *extras, action).amin(-1).mean()
        self._step(self.actor_optimizer, loss)
        self.critics.requires_grad_(True)
        self._soft_update(self.target_actor, self.actor)
        return loss.detach()

    @torch.no_grad()
    def _target(self, batch: TensorDictBase) -> Tensor:
        after = batch["next"]
        features, extras = self.encoder(after[IMAGE]), self._extras(after)
        action = self.target_actor(features, *extras)
        noise = (torch.randn_like(action) * self.noise).clamp(-self.clip, self.clip)
        actions = torch.stack([(action + noise).clamp(-1, 1), after["bc_action"]], -2)
        number = self.critics.num_critics
        members = None
        if self.num_min < number:
            members = torch.randperm(number, device=action.device)[: self.num_min]
        inputs = [features.unsqueeze(1), *(extra.unsqueeze(1) for extra in extras), actions]
        values = self.target_critics(*inputs, members=members).amin(-1)  # [B, 2]
        best = values.amax(-1, keepdim=True)
        discount = self.gamma ** batch["steps_to_next_obs"]
        return after["reward"] + discount * best * ~after["terminated"]

    def _extras(self, batch: TensorDictBase) -> list[Tensor]:
        return [batch[PROPRIO]] if self.proprio else []

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def _soft_update(self, target: nn.Module, online: nn.Module) -> None:
        torch._foreach_lerp_([*target.parameters()], [*online.parameters()], self.tau)


class OriginalPixels(PlainPixels):
    """The same numbers by the arithmetic of the original code.

    All critics evaluate every action, and the sampled ones are selected from their values; the
    selected action is evaluated again for the target; the actor update also computes gradients of
    the critics, which are not used. Optimisers and target updates loop over tensors. The imitation
    policy acts on every batch, unless its action is left in it.

    Args:
        loss: see :class:`PlainPixels`.
        imitation: writes ``bc_action``; None (default): it is in the batch.
        **settings: see :class:`PlainPixels`.
    """

    def __init__(self, loss: Any, imitation: nn.Module | None = None, **settings: Any) -> None:
        super().__init__(loss, **settings)
        self.imitation = imitation
        for name in ("critic_optimizer", "actor_optimizer"):
            group = getattr(self, name).param_groups[0]
            optimizer = torch.optim.Adam(group["params"], group["lr"], foreach=False, fused=False)
            setattr(self, name, optimizer)

    def actor_update(self, batch: TensorDictBase) -> Tensor:
        """Update the actor and its target; reuses the features of the critic update."""
        extras = self._extras(batch)
        action = self.actor(self._features, *extras)
        loss = -self.critics(self._features, *extras, action).amin(-1).mean()
        self._step(self.actor_optimizer, loss)
        self._soft_update(self.target_actor, self.actor)
        return loss.detach()

    @torch.no_grad()
    def _target(self, batch: TensorDictBase) -> Tensor:
        after = batch["next"]
        if self.imitation is not None:
            after = self.imitation(after.exclude("bc_action"))
        features, extras = self.encoder(after[IMAGE]), self._extras(after)
        action = self.target_actor(features, *extras)
        noise = (torch.randn_like(action) * self.noise).clamp(-self.clip, self.clip)
        proposals = [(action + noise).clamp(-1, 1), after["bc_action"]]
        number = self.critics.num_critics
        members = torch.randperm(number)[: self.num_min] if self.num_min < number else slice(None)
        values = torch.stack(
            [
                self.target_critics(features, *extras, each)[:, members].amin(-1)
                for each in proposals
            ]
        )
        chosen = torch.stack(proposals)[values.argmax(0), torch.arange(len(action))]
        best = self.target_critics(features, *extras, chosen)[:, members].amin(-1, keepdim=True)
        discount = self.gamma ** batch["steps_to_next_obs"]
        return after["reward"] + discount * best * ~after["terminated"]

    @torch.no_grad()
    def _soft_update(self, target: nn.Module, online: nn.Module) -> None:
        for old, new in zip(target.parameters(), online.parameters(), strict=True):
            old.copy_((1 - self.tau) * old + self.tau * new)
