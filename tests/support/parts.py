"""Small networks, batches and environments with analytic values."""

from __future__ import annotations

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Tensor, nn
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from ibrl_torchrl.modules import (
    CriticEnsemble,
    ExecuteProposal,
    FrozenPolicy,
    Normalize,
    StateActor,
    StateCriticEnsemble,
)


class LinearCritics(nn.Module):
    """Q_i(s, a) = weight_i * a + bias_i for a one-dimensional action.

    Attributes:
        calls: ``members`` of each forward call.
    """

    def __init__(self, weights: list[float], biases: list[float] | None = None) -> None:
        super().__init__()
        self.num_critics = len(weights)
        self.weight = nn.Parameter(torch.tensor(weights))
        self.bias = nn.Parameter(torch.tensor(biases or [0.0] * len(weights)))
        self.calls: list[list[int] | None] = []

    def forward(self, state: Tensor, action: Tensor, members: Tensor | None = None) -> Tensor:
        self.calls.append(None if members is None else members.tolist())
        values = action * self.weight + self.bias
        return values if members is None else values[..., members]


class Constant(nn.Module):
    """Policy of one constant action."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([value]))

    def forward(self, state: Tensor) -> Tensor:
        return self.value.expand(*state.shape[:-1], 1)


def critics(weights: list[float], biases: list[float] | None = None) -> CriticEnsemble:
    """TensorDict module of ``LinearCritics``."""
    return CriticEnsemble(LinearCritics(weights, biases), ["state", "action"])


def actor(value: float) -> TensorDictModule:
    """RL actor of one constant action."""
    return TensorDictModule(Constant(value), ["state"], ["rl_action"])


def proposal(value: float, key: str = "bc_action") -> FrozenPolicy:
    """Frozen policy of one constant action."""
    return FrozenPolicy(TensorDictModule(Constant(value), ["state"], [key]))


def candidates(*values: float, batch: tuple[int, ...] = ()) -> TensorDict:
    """One-dimensional actions under the keys a0, a1, ..."""
    actions = {f"a{i}": torch.full((*batch, 1), value) for i, value in enumerate(values)}
    return TensorDict({"state": torch.zeros(*batch, 2), **actions}, batch_size=batch)


def transitions(
    size: int = 4,
    *,
    state_size: int = 2,
    action_size: int = 1,
    reward: float = 0.0,
    terminated: bool = False,
    truncated: bool = False,
    action: float | None = None,
) -> TensorDict:
    """Batch [size] of random transitions with equal rewards and end flags."""
    flag = torch.zeros(size, 1, dtype=torch.bool)
    actions = torch.rand(size, action_size) * 2 - 1
    return TensorDict(
        {
            "state": torch.randn(size, state_size),
            "action": actions if action is None else torch.full_like(actions, action),
            "next": {
                "state": torch.randn(size, state_size),
                "reward": torch.full((size, 1), reward),
                "terminated": flag | terminated,
                "truncated": flag | truncated,
                "done": flag | terminated | truncated,
            },
        },
        batch_size=[size],
    )


def networks(
    dropout: float = 0.5, state_size: int = 6, action_size: int = 2
) -> tuple[TensorDictModule, CriticEnsemble, FrozenPolicy]:
    """Small actor, critic ensemble and frozen policy of the package's classes."""
    scale = Normalize.identity(state_size)

    def policy(key: str) -> TensorDictModule:
        network = StateActor(scale, action_size, hidden=[8, 8], dropout=dropout)
        return TensorDictModule(network, ["state"], [key])

    ensemble = StateCriticEnsemble(scale, action_size, num_critics=3, hidden=[8, 8])
    critic = CriticEnsemble(ensemble, ["state", "action"])
    return policy("rl_action"), critic, FrozenPolicy(policy("bc_action"))


def episode(length: int, *, success: bool) -> TensorDict:
    """Episode of states 0, 1, 2, ..., with a reward of 1 at the last step of a success."""
    end = torch.zeros(length, 1, dtype=torch.bool)
    end[-1] = True
    states = torch.arange(length, dtype=torch.float32)[:, None]
    return TensorDict(
        {
            "state": states,
            "action": -states / 100,
            "extra": states,
            "next": {
                "state": states + 1,
                "reward": (end & success).float(),
                "terminated": end & success,
                "truncated": end & (not success),
                "done": end,
            },
        },
        batch_size=[length],
    )


class Countdown(EnvBase):
    """Environment of episodes of fixed lengths; an action above 0 in the last step succeeds.

    Episode i has length ``lengths[i % len(lengths)]`` and states (i, step). ``set_seed(i)`` makes
    episode i the next one.
    """

    def __init__(self, *lengths: int) -> None:
        super().__init__(batch_size=[])
        self.lengths = lengths
        self.next_number = 0
        self.number = self.elapsed = 0
        flag = Categorical(2, shape=(1,), dtype=torch.bool)
        self.observation_spec = Composite(state=Unbounded(2), success=flag)
        self.action_spec = Bounded(-1.0, 1.0, shape=(1,))
        self.reward_spec = Bounded(0.0, 1.0, shape=(1,))
        self.done_spec = Composite(
            done=flag.clone(), terminated=flag.clone(), truncated=flag.clone()
        )

    def _set_seed(self, seed: int | None) -> None:
        self.next_number = seed or 0

    def _reset(self, tensordict: TensorDict | None = None) -> TensorDict:
        self.number, self.elapsed = self.next_number, 0
        self.next_number += 1
        return TensorDict(state=self._state(), success=torch.zeros(1, dtype=torch.bool))

    def _step(self, tensordict: TensorDict) -> TensorDict:
        self.elapsed += 1
        end = torch.tensor([self.elapsed == self.lengths[self.number % len(self.lengths)]])
        success = end & (tensordict["action"] > 0)
        return TensorDict(
            state=self._state(),
            success=success,
            reward=success.float(),
            terminated=success.clone(),
            truncated=end & ~success,
            done=end,
        )

    def _state(self) -> Tensor:
        return torch.tensor([float(self.number), float(self.elapsed)])


def executing(value: float, index: int) -> TensorDictSequential:
    """Policy that executes proposal ``index`` of the constant action ``value``."""
    key = ["rl_action", "bc_action"][index]
    return TensorDictSequential(
        TensorDictModule(Constant(value), ["state"], [key]), ExecuteProposal(key, index)
    )
