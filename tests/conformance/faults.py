"""Faulty variants of this package's adapter, one fault each."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from tensordict.nn import TensorDictSequential
from torch import Tensor

import ibrl_torchrl as ibrl
from conformance.adapter import Batch, Settings
from conformance.ours import TorchRLImplementation

Variant = type[TorchRLImplementation]

FAULTS: list[tuple[Variant, str]] = []
"""Faulty variants, each with the check that must fail."""


def fault(check: str) -> Callable[[Variant], Variant]:
    """Decorator of a faulty variant: registration with the check that must fail."""

    def register(variant: Variant) -> Variant:
        FAULTS.append((variant, check))
        return variant

    return register


class Faulty(TorchRLImplementation):
    """Adapter with what faulty variants compute themselves."""

    def choose(self, state: Tensor, index: Tensor) -> Tensor:
        """Proposals [B, A] of indices int64 [B] at states [B, S]."""
        return self.propose(state)[torch.arange(len(state)), index]

    def proposal_values(self, state: Tensor, *, target: bool = False) -> Tensor:
        """Values float [B, N, E] of all proposals at states [B, S]."""
        actions = self.propose(state, target=target).unbind(1)
        return torch.stack([self.values(state, action, target=target) for action in actions], 1)

    def bootstrap(self, batch: Batch, next_value: Tensor) -> Tensor:
        """TD target [B] of next values [B]."""
        discount = self.settings.gamma**batch.steps * ~batch.terminated
        return batch.reward + discount * next_value

    def subset(self) -> Tensor:
        """Random subset of critics, int64 [K]."""
        return torch.randperm(self.settings.num_critics)[: self.settings.num_min]


# Critics


@fault("acting_critics")
class ActsOnACopyOfTheCritics(Faulty):
    """The selector has a copy of the critics that no optimiser moves."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        *networks, selector = self.policy
        selector = ibrl.IBRLSelector(
            copy.deepcopy(self.critic),
            mode=settings.mode,
            beta=settings.beta,
            epsilon=settings.epsilon,
            num_min=settings.num_min,
        )
        self.policy = TensorDictSequential(*networks, selector)


@fault("acting_critics")
class TrainsACopyOfTheCritics(ActsOnACopyOfTheCritics):
    """The same, by an adapter whose values are those of the critics that act."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.acting = self.policy[-1].critic

    def values(self, state: Tensor, action: Tensor, *, target: bool = False) -> Tensor:
        trained = self.critic
        self.critic = trained if target else self.acting
        try:
            return super().values(state, action, target=target)
        finally:
            self.critic = trained


@fault("members_differ")
class EqualMembers(Faulty):
    """All critics and targets are copies of one network."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        for parameter in self.parameters("critics") + self.parameters("target_critics"):
            if parameter.ndim == 3:
                parameter.data.copy_(parameter.data[:1].expand_as(parameter))


# Choice while acting


@fault("greedy_choice")
class ValuesOfOneCritic(Faulty):
    """The greedy choice is by the first critic instead of the minimum."""

    def act(self, state: Tensor) -> Tensor:
        if self.settings.mode != "greedy":
            return super().act(state)
        return self.choose(state, self.proposal_values(state)[..., 0].argmax(-1))


@fault("soft_choice")
class SoftmaxOfExponentials(Faulty):
    """The soft choice takes a softmax of exp(beta * value)."""

    def act(self, state: Tensor) -> Tensor:
        if self.settings.mode != "soft":
            return super().act(state)
        weights = (self.settings.beta * self.proposal_values(state).amin(-1)).exp()
        return self.choose(state, torch.softmax(weights, -1).multinomial(1)[:, 0])


@fault("soft_choice")
class SoftChoiceIsGreedy(Faulty):
    """The soft choice takes the argmax."""

    def act(self, state: Tensor) -> Tensor:
        if self.settings.mode != "soft":
            return super().act(state)
        return self.choose(state, self.proposal_values(state).amin(-1).argmax(-1))


@fault("epsilon_choice")
class EpsilonOfTheGreedyChoice(Faulty):
    """Epsilon is the probability of the greedy choice."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(replace(settings, epsilon=1 - settings.epsilon))


# Imitation policies


@fault("imitation_is_frozen")
class DropoutInTrainMode(Faulty):
    """``train()`` reaches the imitation policy."""

    def train(self) -> None:
        super().train()
        self.imitation.policy.train()


@fault("imitation_is_frozen")
class TrainsTheImitationPolicy(Faulty):
    """Updates move the imitation policy."""

    def update(self, batch: Batch, *, actor: bool = False) -> None:
        super().update(batch, actor=actor)
        for parameter in self.parameters("imitation"):
            parameter.data.mul_(1 - 1e-3)


# TD target


@fault("one_subset")
class SubsetPerTransition(Faulty):
    """Each transition of a batch has a subset of critics of its own."""

    def td_target(self, batch: Batch) -> Tensor:
        rows = [Batch(*(value[i : i + 1] for value in batch)) for i in range(len(batch.reward))]
        return torch.cat([super(SubsetPerTransition, self).td_target(row) for row in rows])


@fault("one_subset")
class FixedSubset(Faulty):
    """The subset is always that of the first K critics."""

    def td_target(self, batch: Batch) -> Tensor:
        values = self.proposal_values(batch.next_state, target=True)
        values = values[..., : self.settings.num_min]
        return self.bootstrap(batch, values.amin(-1).amax(-1)).detach()


@fault("one_subset")
class MinimumOverAllCritics(Faulty):
    """The minimum is over all critics instead of K."""

    def td_target(self, batch: Batch) -> Tensor:
        values = self.proposal_values(batch.next_state, target=True)
        return self.bootstrap(batch, values.amin(-1).amax(-1)).detach()


@fault("one_subset")
class ChoosesAndValuesByTwoSubsets(Faulty):
    """One subset chooses the proposal, another one values it."""

    def td_target(self, batch: Batch) -> Tensor:
        values = self.proposal_values(batch.next_state, target=True)
        chosen = values[..., self.subset()].amin(-1).argmax(-1, keepdim=True)
        next_value = values[..., self.subset()].amin(-1).gather(-1, chosen)[:, 0]
        return self.bootstrap(batch, next_value).detach()


@fault("ends")
class BootstrapsAfterTermination(Faulty):
    """Terminated transitions bootstrap."""

    def td_target(self, batch: Batch) -> Tensor:
        return super().td_target(batch._replace(terminated=torch.zeros_like(batch.terminated)))


@fault("ends")
class TimeLimitTerminates(Faulty):
    """Truncated transitions do not bootstrap."""

    def td_target(self, batch: Batch) -> Tensor:
        return super().td_target(batch._replace(terminated=batch.terminated | batch.truncated))


@fault("n_steps")
class DiscountOfOneStep(Faulty):
    """k steps are discounted by gamma instead of gamma^k."""

    def td_target(self, batch: Batch) -> Tensor:
        return super().td_target(batch._replace(steps=torch.ones_like(batch.steps)))


@fault("td_target")
class OnlineCriticsInTheTarget(Faulty):
    """The online critics value the proposals at the next state."""

    def td_target(self, batch: Batch) -> Tensor:
        actions = self.propose(batch.next_state, target=True).unbind(1)
        values = torch.stack([self.values(batch.next_state, action) for action in actions], 1)
        next_value = values[..., self.subset()].amin(-1).amax(-1)
        return self.bootstrap(batch, next_value).detach()


@fault("td_target")
class NoImitationProposalInTheTarget(Faulty):
    """The RL actor alone proposes at the next state, as in TD3."""

    def td_target(self, batch: Batch) -> Tensor:
        values = self.proposal_values(batch.next_state, target=True)[:, 0]
        return self.bootstrap(batch, values[..., self.subset()].amin(-1)).detach()


# Target critics


@fault("target_critics")
class ExchangedRates(Faulty):
    """Targets move by 1 - tau instead of tau."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(replace(settings, tau=1 - settings.tau))


@fault("target_critics")
class TargetsInTheOptimiser(Faulty):
    """Updates move target critics by more than the EMA."""

    def update(self, batch: Batch, *, actor: bool = False) -> None:
        super().update(batch, actor=actor)
        for parameter in self.parameters("target_critics"):
            parameter.data.mul_(1 - 1e-3)


@fault("target_critics")
class GradientOfTheTarget(Faulty):
    """The TD target is part of the graph of the critic loss."""

    def td_target(self, batch: Batch) -> Tensor:
        values = self.proposal_values(batch.next_state, target=True)
        online = sum(value.sum() for value in self.parameters("critics"))
        next_value = values[..., self.subset()].amin(-1).amax(-1)
        return self.bootstrap(batch, next_value.detach() + 0 * online)
