"""Terms of a loss: objectives, each with its parameters and target networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tensordict import TensorDictBase
from torch import Tensor, nn


class LossTerm(NamedTuple):
    """Objective of one optimiser: a function of a batch and the parameters it trains.

    A loss lists its terms by name and a learner loops over them, so that further terms, such as
    SAC's temperature or a second actor, need no change of the learner.

    Attributes:
        loss: maps a batch [B] to the loss, a float scalar, and to detached metrics by name.
        parameters: parameters that this term trains.
        targets: names of the networks whose target parameters are updated after each optimiser
            step, such as ``("qvalue_network",)``.
        every_batch: True: minimise on each of the G batches of a round of updates; False: once per
            round, on its last batch.
    """

    loss: Callable[[TensorDictBase], tuple[Tensor, dict[str, Tensor]]]
    parameters: list[nn.Parameter]
    targets: tuple[str, ...]
    every_batch: bool
