"""Behaviour cloning."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.objectives import BCLoss

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import ACTION


def train_imitation(
    network: nn.Module,
    observation_keys: list[str],
    transitions: TensorDictBase,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    grad_clip: float | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Train a deterministic policy in place on demonstrated actions, by squared error.

    Args:
        network: maps the observations to an action [*, A]; dropout is on meanwhile, and the
            network is left in eval mode.
        observation_keys: its inputs.
        transitions: [N] with the observations and ``action``.
        steps: updates of Adam.
        batch_size: transitions an update, drawn with replacement.
        lr: learning rate.
        grad_clip: bound of the gradient's norm, default none.
        on_step: called with the step number and the loss, every 100 updates.

    Raises:
        UsageError: the loss is not finite.
    """
    policy = TensorDictModule(network, in_keys=observation_keys, out_keys=[ACTION])
    with warnings.catch_warnings():
        # TorchRL 0.14's BCLoss forgets to declare a target that it never has.
        warnings.filterwarnings("ignore", message="The name target_actor_network_params")
        loss = BCLoss(policy, loss_function="l2")
    optimizer = torch.optim.Adam(network.parameters(), lr=lr, fused=True)
    network.train()
    for step in range(1, steps + 1):
        batch = transitions[torch.randint(len(transitions), (batch_size,))]
        value = loss(batch)["loss_bc"]
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        if grad_clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), grad_clip)
        optimizer.step()
        if step % 100 == 0 or step == steps:
            if not torch.isfinite(value):
                raise UsageError(f"bc.lr={lr}: the BC loss became {value.item()}; lower it")
            if on_step is not None:
                on_step(step, value.item())
    network.eval()


class TopKWeights:
    """The best few of a network's weights during its training.

    Args:
        keep: how many.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._kept: list[tuple[float, int, dict[str, torch.Tensor]]] = []

    def consider(self, network: nn.Module, step: int, score: float) -> None:
        """Keep a copy of the weights if they are among the best; later ones win a tie."""
        self._kept.append((score, step, copy.deepcopy(network.state_dict())))
        self._kept = sorted(self._kept, key=lambda kept: kept[:2], reverse=True)[: self._keep]

    def restore(self, network: nn.Module) -> tuple[int, float]:
        """Load one of the kept weights, drawn at random as in the paper's appendix E.

        Returns:
            Its step and its score.
        """
        score, step, weights = self._kept[int(torch.randint(len(self._kept), ()))]
        network.load_state_dict(weights)
        return step, score
