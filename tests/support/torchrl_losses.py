"""TorchRL's losses with linear critics and an actor of known action and log-probability."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torch.distributions import Distribution, constraints
from torchrl.data import Bounded
from torchrl.modules import ProbabilisticActor
from torchrl.objectives import (
    CrossQLoss,
    DDPGLoss,
    LossModule,
    REDQLoss,
    SACLoss,
    TD3Loss,
    TQCLoss,
)

ACTION, LOG_PROB, ALPHA, GAMMA = 0.5, -0.3, 0.1, 0.9
SPEC = Bounded(-1.0, 1.0, shape=(1,))


class Fixed(Distribution):
    """Distribution of one value with log-probability ``LOG_PROB``, differentiable in ``loc``."""

    arg_constraints: dict[str, Any] = {}
    support = constraints.real
    has_rsample = True

    def __init__(self, loc: Tensor) -> None:
        self.loc = loc
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.loc.expand(*sample_shape, *self.loc.shape)

    sample = rsample

    @property
    def deterministic_sample(self) -> Tensor:
        return self.loc

    mean = deterministic_sample

    def log_prob(self, value: Tensor) -> Tensor:
        return LOG_PROB + 0.0 * (value - self.loc).sum(-1) + 0.0 * self.loc.sum(-1)


class Linear(nn.Module):
    """Q(s, a) = weight * a + bias, V values; dependent on the state by ``slope`` times its sum."""

    def __init__(self, weight: float, bias: Sequence[float] = (0.0,), slope: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.bias = nn.Parameter(torch.tensor([*bias]))
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        return self.weight * action + self.bias + self.slope * state.sum(-1, keepdim=True)


class ConstantAction(nn.Module):
    """Network of one constant action."""

    def __init__(self, value: float = ACTION) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([value]))

    def forward(self, state: Tensor) -> Tensor:
        return self.value.expand(*state.shape[:-1], 1)


def critic(weight: float, bias: Sequence[float] = (0.0,), slope: float = 0.0) -> TensorDictModule:
    """Linear critic as TorchRL's losses take it."""
    return TensorDictModule(
        Linear(weight, bias, slope), ["state", "action"], ["state_action_value"]
    )


def stochastic_actor() -> ProbabilisticActor:
    """Actor of the action ``ACTION`` with log-probability ``LOG_PROB``."""
    return ProbabilisticActor(
        TensorDictModule(ConstantAction(), ["state"], ["loc"]),
        in_keys=["loc"],
        distribution_class=Fixed,
        return_log_prob=True,
        spec=SPEC,
    )


def deterministic_actor() -> TensorDictModule:
    """Actor of the action ``ACTION``."""
    return TensorDictModule(ConstantAction(), ["state"], ["action"])


Critics = Sequence[TensorDictModule]


def sac(critics: Critics) -> LossModule:
    return SACLoss(
        stochastic_actor(),
        [*critics],
        num_qvalue_nets=len(critics),
        alpha_init=ALPHA,
        action_spec=SPEC,
        loss_function="l2",
    )


def tqc(critics: Critics, drop: int = 1) -> LossModule:
    return TQCLoss(
        stochastic_actor(),
        [*critics],
        num_qvalue_nets=len(critics),
        alpha_init=ALPHA,
        top_quantiles_to_drop_per_net=drop,
        action_spec=SPEC,
    )


def redq(critics: Critics, subset: int = 2) -> LossModule:
    return REDQLoss(
        stochastic_actor(),
        [*critics],
        num_qvalue_nets=len(critics),
        sub_sample_len=subset,
        alpha_init=ALPHA,
        min_alpha=1e-3,
        action_spec=SPEC,
        loss_function="l2",
    )


def crossq(critics: Critics) -> LossModule:
    return CrossQLoss(
        stochastic_actor(),
        [*critics],
        num_qvalue_nets=len(critics),
        alpha_init=ALPHA,
        action_spec=SPEC,
        loss_function="l2",
    )


def td3(critics: Critics) -> LossModule:
    return TD3Loss(
        deterministic_actor(),
        [*critics],
        num_qvalue_nets=len(critics),
        bounds=(-1.0, 1.0),
        policy_noise=0.0,
        loss_function="l2",
    )


def ddpg(critics: Critics) -> LossModule:
    (only,) = critics
    return DDPGLoss(deterministic_actor(), only)


MAKERS: dict[str, Callable[..., LossModule]] = {
    "sac": sac,
    "tqc": tqc,
    "redq": redq,
    "crossq": crossq,
    "td3": td3,
    "ddpg": ddpg,
}
ENTROPY = {"sac", "tqc", "redq", "crossq"}
