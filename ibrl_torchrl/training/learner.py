"""Learner: rounds of updates of a loss's terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.objectives import LossModule

from ibrl_torchrl.builders.agent import Agent
from ibrl_torchrl.config.algo import UpdateConfig
from ibrl_torchrl.data.replay.buffer import Replay
from ibrl_torchrl.objectives import LossTerm, PartialSoftUpdate
from ibrl_torchrl.runs.checkpoint import load_state, require_state
from ibrl_torchrl.runs.contents import entry, require_adam_state
from ibrl_torchrl.runs.tables import share_column

_CHOICE = "next_proposal"  # metric of a term: index of the proposal that each target chose


class Learner:
    """Rounds of updates, as in the paper's Algorithm 1, lines 11 to 20.

    The loss says what there is to minimise (:class:`~ibrl_torchrl.objectives.LossTerm`): a round is
    G updates of the terms of every batch, such as the critics', each on a new batch; then one
    update of each other term, such as the actor's, on the last batch. Every term has an Adam
    optimiser, and after its step the targets of its networks follow.

    Args:
        loss: loss module that owns networks and targets.
        terms: loss terms by name.
        lr: learning rate of all optimisers.
        tau: step of the targets' moving averages.
        critic_updates: G.
        target_proposals: names of the proposals, in the order of the index ``next_proposal``.
        compile_mode: mode of ``torch.compile`` for the terms: ``"default"``, or
            ``"reduce-overhead"`` for CUDA graphs. None (default) is eager, which is faster on CPUs.
    """

    def __init__(
        self,
        loss: LossModule,
        terms: Mapping[str, LossTerm],
        *,
        lr: float,
        tau: float,
        critic_updates: int,
        target_proposals: Sequence[str] = (),
        compile_mode: str | None = None,
    ) -> None:
        self.loss = loss
        self.critic_updates = critic_updates
        self._target_proposals = target_proposals
        self._every_batch = [name for name, term in terms.items() if term.every_batch]
        self._last_batch = [name for name, term in terms.items() if not term.every_batch]
        self._terms = {
            name: term.loss if compile_mode is None else torch.compile(term.loss, mode=compile_mode)
            for name, term in terms.items()
        }
        self.optimizers = {
            name: torch.optim.Adam(term.parameters, lr=lr, fused=True)
            for name, term in terms.items()
        }
        self._targets = {
            name: PartialSoftUpdate(loss, *term.targets, tau=tau)
            for name, term in terms.items()
            if term.targets
        }

    def round(
        self, replay: Replay, device: torch.device, *, critics_only: bool = False
    ) -> list[dict[str, Tensor]]:
        """Run one round.

        Args:
            replay: replay buffer to sample; priorities are written back to it.
            device: device of the batches.
            critics_only: leave out the terms of the last batch, such as the actor's. Default False.

        Returns:
            Metrics of each update, scalar tensors in the order of computation.
        """
        metrics = []
        for _ in range(self.critic_updates):
            batch = _to_device(replay.sample(), device)
            metrics += [self.update(name, batch) for name in self._every_batch]
            replay.update_tensordict_priority(batch)
        last = [] if critics_only else self._last_batch
        return [*metrics, *(self.update(name, batch) for name in last)]

    def update(self, term: str, batch: TensorDictBase) -> dict[str, Tensor]:
        """Minimise a term on one batch [B] and move its targets; returns its metrics."""
        loss, info = self._terms[term](batch)
        optimizer = self.optimizers[term]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if term in self._targets:
            self._targets[term].step()
        choice = info.pop(_CHOICE, None)
        metrics = {name: value.mean() for name, value in info.items()}
        if choice is not None:
            for index, proposal in enumerate(self._target_proposals):
                share = (choice == index).float().mean()
                metrics[share_column("target", proposal)] = share
        return metrics | {term: loss.detach()}

    def state_dict(self) -> dict[str, Any]:
        """State of networks, targets and optimisers."""
        optimizers = {name: each.state_dict() for name, each in self.optimizers.items()}
        return {"loss": self.loss.state_dict(), "optimizers": optimizers}

    def require_fits(self, state: Mapping[str, Any], path: Path) -> None:
        """Refuse a state of other networks or optimisers, without loading it.

        Args:
            state: state of a learner.
            path: file of the state, for messages.

        Raises:
            UsageError: names the first difference.
        """
        require_state(self.loss, entry(state, "loss", dict, path), path)
        optimizers = entry(state, "optimizers", dict, path)
        for name, optimizer in self.optimizers.items():
            require_adam_state(entry(optimizers, name, dict, path), optimizer, name, path)

    def load_state_dict(self, state: Mapping[str, Any], path: Path) -> None:
        """Load what ``state_dict`` returned.

        Args:
            state: state of a learner with the same settings.
            path: file of the state, for messages.

        Raises:
            UsageError: see :meth:`require_fits`; nothing is loaded.
        """
        self.require_fits(state, path)
        load_state(self.loss, state["loss"], path)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])


def build_learner(agent: Agent, config: UpdateConfig, compile_mode: str | None) -> Learner:
    """Learner of an agent.

    Args:
        agent: owner of the loss and its terms.
        config: settings of the optimisation.
        compile_mode: see :class:`Learner`.
    """
    return Learner(
        agent.loss,
        agent.terms,
        lr=config.lr,
        tau=config.tau,
        critic_updates=config.critic_updates,
        target_proposals=agent.target_proposals,
        compile_mode=compile_mode,
    )


def _to_device(batch: TensorDictBase, device: torch.device) -> TensorDictBase:
    """Batch on the device; a copy to a GPU is asynchronous, from pinned memory."""
    if device.type != "cuda" or batch.device == device:
        return batch.to(device)
    return batch.pin_memory(num_threads=0).to(device, non_blocking=True)
