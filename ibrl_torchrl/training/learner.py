"""One round of updates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from ibrl_torchrl.data.replay.buffer import Replay
from ibrl_torchrl.objectives import IBRLTD3Loss, PartialSoftUpdate
from ibrl_torchrl.runs.checkpoint import load_state


class Learner:
    """The update round of the paper's Algorithm 1, lines 11 to 20.

    G critic updates, each on a fresh batch and followed by a step of the critic targets; then one
    actor update on the last batch and a step of the actor target.

    Args:
        loss: owner of networks and targets.
        lr: learning rate of both Adam optimisers.
        tau: step of both target averages.
        critic_updates: G.
        compile_mode: compile both losses by ``torch.compile`` in this mode: ``"default"``, or
            ``"reduce-overhead"`` for CUDA graphs. None (default) runs them as they are, which is
            faster on CPUs.
    """

    def __init__(
        self,
        loss: IBRLTD3Loss,
        *,
        lr: float,
        tau: float,
        critic_updates: int,
        compile_mode: str | None = None,
    ) -> None:
        self.loss = loss
        self._critic_loss, self._policy_loss = (
            part if compile_mode is None else torch.compile(part, mode=compile_mode)
            for part in (loss.qvalue_loss, loss.actor_loss)
        )
        self.critic_updates = critic_updates
        critic_parameters = [*loss.encoder.parameters(), *loss.qvalue_network_params.parameters()]
        self.critic_optimizer = _adam(critic_parameters, lr)
        self.actor_optimizer = _adam(loss.actor_network_params.parameters(), lr)
        self._critic_target = PartialSoftUpdate(loss, "qvalue_network", tau=tau)
        self._actor_target = PartialSoftUpdate(loss, "actor_network", tau=tau)

    def round(self, replay: Replay, device: torch.device) -> list[dict[str, Tensor]]:
        """Run one round.

        Returns:
            What happened in each of its G + 1 updates, scalar tensors in the order of computation.
        """
        reports = []
        for _ in range(self.critic_updates):
            batch = _brought(replay.sample(), device)
            reports.append(self.update_critics(batch))
            replay.update_tensordict_priority(batch)
        return [*reports, self.update_actor(batch)]

    def update_critics(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """One critic update and a step of the critic targets; writes priorities to the batch."""
        loss, info = self._critic_loss(batch)
        _descend(self.critic_optimizer, loss)
        self._critic_target.step()
        return {
            "bootstrap_il_share": (info["next_proposal"] > 0).float().mean(),
            "target_mean": info["target_value"].mean(),
            "q_mean": info["pred_value"].mean(),
            "loss_qvalue": loss.detach(),
        }

    def update_actor(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """One actor update and a step of the actor target."""
        loss, info = self._policy_loss(batch)
        _descend(self.actor_optimizer, loss)
        self._actor_target.step()
        return {key: value.mean() for key, value in info.items()} | {"loss_actor": loss.detach()}

    def state_dict(self) -> dict[str, Any]:
        """Everything the learner needs to go on."""
        return {
            "loss": self.loss.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "actor_optimizer": self.actor_optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], path: Path) -> None:
        """Go on from what ``state_dict`` gave.

        Args:
            state: of a learner of the same configuration.
            path: the file it comes from, for messages.

        Raises:
            UsageError: it is of other networks.
        """
        load_state(self.loss, state["loss"], path)
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self.actor_optimizer.load_state_dict(state["actor_optimizer"])


def _brought(batch: TensorDictBase, device: torch.device) -> TensorDictBase:
    """The batch on the device; a GPU fetches it while it still computes, and nobody waits."""
    if device.type != "cuda":
        return batch.to(device)
    return batch.pin_memory(num_threads=0).to(device, non_blocking=True)


def _adam(parameters: object, lr: float) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=lr, fused=True)


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
