"""Weights of a training: their moving average, and the best of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[Tensor, ...] | list[Tensor]


class TrainedWeights:
    """Weights of a network in training, as the optimiser leaves them.

    Args:
        network: network in training.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def update(self) -> None:
        """Take in the weights after an optimiser step."""

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context in which the network has the weights to be evaluated."""
        yield

    def load(self) -> None:
        """Load the weights to be evaluated into the network, for good."""


class AveragedWeights(TrainedWeights):
    """Exponential moving average of a network's weights (PyTorch's ``AveragedModel``).

    After step t, counted from 0, average = d_t average + (1 - d_t) weights with the decay
    d_t = min(decay, (1 + t) / (10 + t)), which starts low so that the initial weights are soon
    forgotten; the first average is the weights after the first step. Buffers, such as the
    statistics of a batch norm, are those of the network.

    Args:
        network: network in training.
        decay: limit of the decay, in [0, 1], such as 0.999.

    Example:
        >>> network = torch.nn.Linear(1, 1, bias=False)
        >>> weights = AveragedWeights(network, 0.999)
        >>> for value in (0.0, 1.0):
        ...     _ = torch.nn.init.constant_(network.weight, value)
        ...     weights.update()
        >>> with weights.applied():
        ...     round(network.weight.item(), 4)  # d_1 = 2 / 11
        0.8182
        >>> network.weight.item()
        1.0
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network)
        self._average = AveragedModel(network, multi_avg_fn=_warmed_up_average(decay))

    def update(self) -> None:
        """Take in the weights after an optimiser step."""
        self._average.update_parameters(self.network)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context in which the network has the averaged weights."""
        current = copy.deepcopy(self.network.state_dict())
        self.load()
        try:
            yield
        finally:
            self.network.load_state_dict(current)

    def load(self) -> None:
        """Load the averaged weights into the network, for good."""
        self.network.load_state_dict(self._average.module.state_dict())


def weights_of(network: nn.Module, ema: float | None) -> TrainedWeights:
    """Weights of a network in training, or their average with decay ``ema``."""
    return TrainedWeights(network) if ema is None else AveragedWeights(network, ema)


def _warmed_up_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    def update(average: Tensors, weights: Tensors, step: Tensor | int) -> None:
        current = min(decay, (1 + float(step)) / (10 + float(step)))
        get_ema_multi_avg_fn(current)(average, weights, step)

    return update


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
