"""Behaviour cloning."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn

from ibrl_torchrl.errors import UsageError

CHECK_EVERY = 100  # steps


def train_imitation(
    network: nn.Module,
    loss: TensorDictModuleBase,
    transitions: TensorDictBase,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    lr_name: str = "lr",
    grad_clip: float | None = None,
    on_step: Callable[[int, Tensor], bool | None] | None = None,
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
        lr_name: its name in messages; default ``"lr"``.
        grad_clip: bound of the gradient's norm; None (default): none.
        on_step: called after every step with its number, from 1, and its loss, a scalar without
            gradients; training ends where it returns True. None (default): nothing.

    Raises:
        UsageError: the loss is not finite, checked every ``CHECK_EVERY`` steps and at the last.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=lr, fused=True)
    network.train()
    for step in range(1, steps + 1):
        batch = transitions[torch.randint(len(transitions), (batch_size,))]
        value = imitation_step(loss, batch, optimizer, grad_clip)
        if step % CHECK_EVERY == 0 or step == steps:
            require_finite(value, lr_name, lr)
        if on_step is not None and on_step(step, value):
            break
    network.eval()


def imitation_step(
    loss: TensorDictModuleBase,
    batch: TensorDictBase,
    optimizer: torch.optim.Optimizer,
    grad_clip: float | None = None,
) -> Tensor:
    """Take one optimiser step on a batch.

    Args:
        loss: loss, whose outputs ``loss_*`` are summed.
        batch: transitions [B] with what the loss reads.
        optimizer: optimiser of the policy's parameters.
        grad_clip: bound of the gradient's norm; None (default): none.

    Returns:
        The loss before the step, float scalar without a gradient.
    """
    value = total_loss(loss, batch)
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    if grad_clip is not None:
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        nn.utils.clip_grad_norm_(parameters, grad_clip)
    optimizer.step()
    return value.detach()


def require_finite(loss: Tensor, lr_name: str, lr: float) -> None:
    """Refuse a loss that is NaN or inf.

    Args:
        loss: imitation loss, float scalar.
        lr_name: name of the learning rate.
        lr: its value.

    Raises:
        UsageError: names the learning rate.
    """
    if not torch.isfinite(loss):
        raise UsageError(f"{lr_name}={lr}: the imitation loss became {loss.item()}; lower it")


def total_loss(loss: TensorDictModuleBase, batch: TensorDictBase) -> Tensor:
    """Sum of a loss module's outputs ``loss_*``, a scalar."""
    terms = loss(batch).items()
    return cast(Tensor, sum(term for name, term in terms if name.startswith("loss_")))
