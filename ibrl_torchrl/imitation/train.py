"""Behaviour cloning and selection of weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn

from ibrl_torchrl.errors import UsageError

REPORT_EVERY = 100  # steps


def train_imitation(
    network: nn.Module,
    loss: TensorDictModuleBase,
    transitions: TensorDictBase,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    grad_clip: float | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Train a policy in place on demonstrations (Adam).

    Args:
        network: policy network; in train mode during training (dropout), left in eval mode.
        loss: loss on the network's parameters, such as TorchRL's ``BCLoss``; its outputs
            ``loss_*`` are summed.
        transitions: demonstrations [N] with what the loss reads: the observations and ``action``.
        steps: optimiser steps.
        batch_size: transitions in a batch, drawn with replacement.
        lr: learning rate.
        grad_clip: bound of the gradient's norm; None (default): none.
        on_step: called with the step and the loss every ``REPORT_EVERY`` steps and at the end.

    Raises:
        UsageError: the loss is not finite.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=lr, fused=True)
    network.train()
    for step in range(1, steps + 1):
        batch = transitions[torch.randint(len(transitions), (batch_size,))]
        terms = loss(batch).items()
        value = cast(Tensor, sum(term for name, term in terms if name.startswith("loss_")))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        if grad_clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), grad_clip)
        optimizer.step()
        if step % REPORT_EVERY == 0 or step == steps:
            if not torch.isfinite(value):
                raise UsageError(f"lr={lr}: the imitation loss became {value.item()}; lower it")
            if on_step is not None:
                on_step(step, value.item())
    network.eval()


class TopKWeights:
    """Best weights of a network during its training.

    Args:
        k: number of weights that are kept.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._best: list[tuple[float, int, dict[str, torch.Tensor]]] = []

    def update(self, network: nn.Module, step: int, score: float) -> None:
        """Keep a copy of the weights if they are among the best; later ones win a tie."""
        self._best.append((score, step, copy.deepcopy(network.state_dict())))
        self._best = sorted(self._best, key=lambda item: item[:2], reverse=True)[: self._k]

    def load_random(self, network: nn.Module) -> tuple[int, float]:
        """Load one of the best weights, drawn at random (paper, appendix E).

        Returns:
            Its step and its score.
        """
        score, step, weights = self._best[int(torch.randint(len(self._best), ()))]
        network.load_state_dict(weights)
        return step, score
