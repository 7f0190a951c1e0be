"""Terms of a loss: objectives, each with its parameters and target networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import LossModule

from ibrl_torchrl.objectives.bootstrap import ProposalValueEstimator


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


def summed_term(loss: LossModule, *targets: str) -> dict[str, LossTerm]:
    """Sum of all losses of one of TorchRL's loss modules, minimised on every batch.

    TorchRL's losses detach what each of their parts must not train, so that their sum has the
    gradients of all.

    Args:
        loss: loss module whose ``forward`` returns ``loss_*`` and scalar metrics.
        *targets: names of the networks whose targets follow, such as ``"qvalue_network"``.

    Returns:
        One term, named ``"loss"``. With a bootstrap proposal its metrics include ``next_value``,
        float [B, V], and ``next_proposal`` int64 [B], the index of the proposal that the target
        chose.
    """

    def total(batch: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        output = loss(batch)
        parts = [value for name, value in output.items() if name.startswith("loss_")]
        metrics = {name: value.detach() for name, value in output.items() if not value.ndim}
        estimator = loss.value_estimator
        if isinstance(estimator, ProposalValueEstimator):
            metrics |= {
                "next_value": estimator.next_value,
                "next_proposal": estimator.next_proposal,
            }
        return torch.stack(parts).sum(), metrics

    trained = [parameter for parameter in loss.parameters() if parameter.requires_grad]
    return {"loss": LossTerm(total, trained, targets, True)}
