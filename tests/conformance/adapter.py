"""Interface between the checks and an implementation of IBRL: settings, batches, operations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class Settings:
    """Settings of an implementation, as a check asks for them.

    Attributes:
        state_size: number of state entries S.
        action_size: number of action dimensions A; actions are in [-1, 1].
        num_critics: number of critics E.
        num_min: size K of the random subset of critics whose minimum is taken.
        mode: choice while acting: argmax; softmax(beta * value); argmax or, with probability
            ``epsilon``, uniformly random. The TD target is always greedy.
        beta: inverse temperature of the soft choice.
        epsilon: probability of a random choice in epsilon mode.
        gamma: discount per step.
        tau: weight of the online critics in each update of the target critics.
        learning_rate: learning rate of critics and actor.
    """

    state_size: int = 3
    action_size: int = 2
    num_critics: int = 2
    num_min: int = 2
    mode: Literal["greedy", "soft", "epsilon"] = "greedy"
    beta: float = 10.0
    epsilon: float = 0.1
    gamma: float = 0.9
    tau: float = 0.25
    learning_rate: float = 1e-2


class Batch(NamedTuple):
    """Batch of k-step transitions.

    Attributes:
        state: float32 [B, S].
        action: float32 [B, A].
        reward: float32 [B], discounted sum over the k steps.
        next_state: float32 [B, S].
        terminated: bool [B], end of the task: nothing follows.
        truncated: bool [B], time limit: the task would go on.
        steps: int64 [B], number of steps k.
    """

    state: Tensor
    action: Tensor
    reward: Tensor
    next_state: Tensor
    terminated: Tensor
    truncated: Tensor
    steps: Tensor


class Implementation(ABC):
    """Operations of an implementation of IBRL with N proposals: RL actor and imitation policies.

    Every operation calls the implementation's own code: what an adapter computes itself is not
    checked. The networks are the implementation's, small, with random weights. The RL actor has
    neither exploration noise, target noise nor dropout; the imitation policies have dropout, if
    the implementation knows it. An operation or constructor raises ``NotImplementedError`` for
    settings that the implementation does not have, such as a mode.

    Args:
        settings: settings; subclasses have this one constructor argument.
    """

    @abstractmethod
    def __init__(self, settings: Settings) -> None: ...

    @abstractmethod
    def propose(self, state: Tensor, *, target: bool = False) -> Tensor:
        """Proposals float [B, N, A] at states [B, S], the RL actor's first.

        Args:
            state: float [B, S].
            target: as in the TD target, that is by the target actor; else as while acting.
        """

    @abstractmethod
    def act(self, state: Tensor) -> Tensor:
        """Executed actions float [B, A] at states [B, S], one of the proposals each, by the mode.

        The action while collecting data, not in evaluation.
        """

    @abstractmethod
    def values(self, state: Tensor, action: Tensor, *, target: bool = False) -> Tensor:
        """Values float [B, E] of all critics at states [B, S] and actions [B, A].

        Args:
            state: float [B, S].
            action: float [B, A].
            target: of the target critics; else of the online critics.
        """

    @abstractmethod
    def td_target(self, batch: Batch) -> Tensor:
        """TD target float [B] of a batch [B], as the critic loss has it."""

    @abstractmethod
    def update(self, batch: Batch, *, actor: bool = False) -> None:
        """Optimiser step of the critic loss on a batch [B], then the update of the targets.

        Args:
            batch: transitions.
            actor: also an optimiser step of the actor loss.
        """

    @abstractmethod
    def train(self) -> None:
        """Train mode of everything that the training loop puts into it."""

    @abstractmethod
    def parameters(self, name: str) -> list[Tensor]:
        """Parameters themselves, not copies.

        Args:
            name: ``"critics"``, ``"target_critics"`` (in the same order) or ``"imitation"``.
        """


Make = Callable[[Settings], Implementation]
"""Adapter class, or any other function that makes an implementation of settings."""
