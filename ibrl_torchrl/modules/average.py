"""Moving average of the weights of networks that are trained, to act in their place."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage(AveragedModel):
    """Exponential moving average of modules' weights (PyTorch's ``AveragedModel``).

    An update changes it less than the modules, which matters where several of them change at once,
    such as an actor and the encoder whose features it reads. ``module`` is the list of averaged
    modules, copies that are not trained. Buffers, such as statistics, are those of the modules.

    Args:
        modules: modules whose parameters an optimiser changes in place; a reference.
        decay: weight of the average in each update, in [0, 1), such as 0.99. The first update
            copies the weights.

    Raises:
        ValueError: ``decay`` is out of range.

    Example:
        >>> import torch
        >>> actor = torch.nn.Linear(1, 1, bias=False)
        >>> average = WeightAverage([actor], decay=0.75)
        >>> for value in (0.0, 1.0):
        ...     _ = torch.nn.init.constant_(actor.weight, value)
        ...     average.update()
        >>> average.module[0].weight.item()
        0.25
    """

    module: nn.ModuleList

    def __init__(self, modules: Iterable[nn.Module], decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
        source = nn.ModuleList(modules)
        super().__init__(source, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.requires_grad_(False)
        # Not a registered child: it is no part of the average's state.
        self.__dict__["_source"] = source

    def update(self) -> None:
        """Take in the modules' present weights."""
        self.update_parameters(self.__dict__["_source"])
