"""Held-out demonstrations: split, loss, early stopping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import nn

from ibrl_torchrl.imitation.train import total_loss
from ibrl_torchrl.runtime import forked_rng

EpisodeT = TypeVar("EpisodeT")


def hold_out(
    episodes: Sequence[EpisodeT], fraction: float
) -> tuple[list[EpisodeT], list[EpisodeT]]:
    """Split demonstrations at random into training and validation, whole episodes each.

    Args:
        episodes: demonstrations.
        fraction: fraction of them to hold out, rounded to the nearest number, in [0, 1); 0 holds
            out none and draws nothing.

    Returns:
        Episodes to train on and held-out ones, in their order.

    Raises:
        ValueError: the fraction is above 0 and one side is empty.
    """
    if fraction == 0:
        return [*episodes], []
    number = math.floor(len(episodes) * fraction + 0.5)
    if not 0 < number < len(episodes):
        raise ValueError(f"fraction={fraction} holds out {number} of {len(episodes)} episodes")
    held_out = {*torch.randperm(len(episodes))[:number].tolist()}
    return (
        [episode for index, episode in enumerate(episodes) if index not in held_out],
        [episode for index, episode in enumerate(episodes) if index in held_out],
    )


class ValidationLoss:
    """Mean loss on held-out transitions, in eval mode and without gradients.

    A loss that draws, such as noise levels, draws the same numbers in every call, so that
    differences come from the weights; the global random state is left unchanged.

    Args:
        network: policy network, whose mode is restored.
        loss: loss on its parameters, a mean over the batch; its outputs ``loss_*`` are summed.
        transitions: held-out demonstrations [N].
        batch_size: most transitions of a forward pass.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: TensorDictModuleBase,
        transitions: TensorDictBase,
        batch_size: int,
    ) -> None:
        self._network = network
        self._loss = loss
        self._batches = transitions.split(batch_size)
        self._size = len(transitions)

    @torch.no_grad()
    def __call__(self) -> float:
        """Loss of the network's present weights."""
        mode = self._network.training
        self._network.eval()
        with forked_rng(self._batches[0].device):
            torch.manual_seed(0)
            total = sum(len(b) * total_loss(self._loss, b.copy()).item() for b in self._batches)
        self._network.train(mode)
        return total / self._size


class EarlyStopping:
    """End of a training whose validation loss no longer improves.

    Args:
        patience: validations in a row without improvement after which to stop; None: never.

    Example:
        >>> stopping = EarlyStopping(2)
        >>> [stopping.update(loss) for loss in (0.3, 0.2, 0.2, 0.4)]
        [False, False, False, True]
    """

    def __init__(self, patience: int | None) -> None:
        self._patience = math.inf if patience is None else patience
        self._best = math.inf
        self._without_improvement = 0

    def update(self, loss: float) -> bool:
        """Take in a validation loss.

        Returns:
            Whether to stop.
        """
        improved = loss < self._best
        self._best = min(loss, self._best)
        self._without_improvement = 0 if improved else self._without_improvement + 1
        return self._without_improvement >= self._patience
