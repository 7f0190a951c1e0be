"""Selection among the weights of an imitation policy's training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from tensordict.nn import TensorDictModuleBase
from torch import nn
from torchrl.envs import EnvBase

from ibrl_torchrl.config.imitation import ImitationConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.evaluation.evaluate import EvaluationJob
from ibrl_torchrl.imitation.validation import EarlyStopping, ValidationLoss
from ibrl_torchrl.imitation.weights import TopKWeights
from ibrl_torchrl.rollouts.episode import LocalRollouts


class WeightSelection(Protocol):
    """Rule by which weights are selected while a policy is trained.

    Attributes:
        every: steps between evaluations of the weights; the last step is one, too.
    """

    every: int

    def evaluate(self, step: int) -> bool:
        """Evaluate the network's present weights; whether to end the training."""
        ...

    def load(self) -> None:
        """Load the selected weights into the network."""
        ...


class LastWeights:
    """Selection of the weights after the last step.

    Args:
        steps: steps of the training.
    """

    def __init__(self, steps: int) -> None:
        self.every = steps

    def evaluate(self, step: int) -> bool:
        """Never end the training."""
        del step
        return False

    def load(self) -> None:
        """Leave the network as it is."""


class BestSuccess:
    """Selection by the success rate of episodes.

    Args:
        name: name of the policy.
        network: network in training.
        policy: policy on the network's weights, in eval mode.
        config: settings of the evaluations.
        env: environment of the episodes.
        every: steps between evaluations.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        policy: TensorDictModuleBase,
        config: ImitationConfig,
        env: EnvBase,
        every: int,
    ) -> None:
        self.every = every
        self._name = name
        self._network = network
        self._rollouts = LocalRollouts(env, {name: policy})
        self._seeds = range(config.eval_seed, config.eval_seed + config.eval_episodes)
        self._best = TopKWeights(config.top_k)

    def evaluate(self, step: int) -> bool:
        """Keep the weights if their success rate is among the best; never end the training."""
        job = EvaluationJob(self._rollouts, [self._name], self._seeds, [self._name])
        rate = job.results()[self._name].success_rate
        echo(f"{self._name} step {step:>7}  success {rate:.2f} of {len(self._seeds)}")
        self._best.update(self._network, step, rate)
        return False

    def load(self) -> None:
        """Load one of the best weights."""
        step, score = self._best.load_random(self._network)
        echo(f"{self._name} step {step:>7}  selected, success {score:.2f}")


class LowestValidationLoss:
    """Selection by the loss on held-out demonstrations, with early stopping.

    Args:
        name: name of the policy.
        network: network in training.
        loss: loss on held-out demonstrations.
        config: settings of the validation.
        report: called with the step and the loss of each validation.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        loss: ValidationLoss,
        config: ImitationConfig,
        report: Callable[[int, float], None],
    ) -> None:
        self.every = config.validate_every
        self._name = name
        self._network = network
        self._loss = loss
        self._lr = config.lr
        self._report = report
        self._best = TopKWeights(config.top_k)
        self._stopping = EarlyStopping(config.patience)

    def evaluate(self, step: int) -> bool:
        """Keep the weights if their loss is among the lowest; end where it no longer improves.

        Raises:
            UsageError: the loss is not finite.
        """
        loss = self._loss()
        if not math.isfinite(loss):
            lr = f"imitation.{self._name}.lr={self._lr}"
            raise UsageError(f"{lr}: the validation loss became {loss}; lower it")
        self._report(step, loss)
        self._best.update(self._network, step, -loss)
        return self._stopping.update(loss)

    def load(self) -> None:
        """Load one of the best weights."""
        step, score = self._best.load_random(self._network)
        echo(f"{self._name} step {step:>7}  selected, validation loss {-score:.3g}")
