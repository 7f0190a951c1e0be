"""Terms of a loss: what a learner minimises, and with which parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tensordict import TensorDictBase
from torch import Tensor, nn


class LossTerm(NamedTuple):
    """Term of a loss that one optimiser minimises.

    A loss gives its terms by name, so that a learner needs to know none: SAC's temperature or a
    second actor are further terms.

    Attributes:
        loss: maps a batch [B] to the loss, a scalar, and to detached metrics by name.
        parameters: what the term trains.
        targets: networks whose target parameters follow after an optimiser step, such as
            ``"qvalue_network"``.
        every_batch: minimise on each of the G batches of a round; False: once a round, on its last
            batch.
    """

    loss: Callable[[TensorDictBase], tuple[Tensor, dict[str, Tensor]]]
    parameters: list[nn.Parameter]
    targets: tuple[str, ...]
    every_batch: bool
