"""Interface of critic ensembles: values of candidate actions, and their reduction."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal, get_args

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor

CriticReduction = Literal["min", "mean"]


class CriticEnsembleBase(TensorDictModuleBase):
    """Base class of critic ensembles, as selector and losses use them.

    Attributes:
        action_key: key of the action, float [*, A], an input.
        num_critics: number of critics E.
    """

    action_key: NestedKey

    @property
    @abstractmethod
    def num_critics(self) -> int:
        """Number of critics E."""

    @property
    def observation_keys(self) -> list[NestedKey]:
        """Input keys without the action."""
        return [key for key in self.in_keys if key != self.action_key]

    @abstractmethod
    def evaluate(
        self, tensordict: TensorDictBase, candidates: Tensor, members: Tensor | None = None
    ) -> Tensor:
        """Values of N candidate actions of each observation.

        Args:
            tensordict: observations, batch shape [*].
            candidates: float [*, N, A].
            members: int64 [K], indices of the critics; None (default): all.

        Returns:
            Values float [*, N, E], K instead of E with ``members``; quantile critics: [*, N, E, Q].
        """

    def reduce(self, values: Tensor, reduction: CriticReduction = "min") -> Tensor:
        """Value by which candidates are compared.

        Args:
            values: float [*, N, E], what ``evaluate`` returned.
            reduction: ``"min"`` (default) or ``"mean"`` over critics.

        Returns:
            float [*, N].
        """
        return reduce_critics(values, reduction)

    def regression(self, tensordict: TensorDictBase, target: Tensor) -> tuple[Tensor, Tensor]:
        """Values of the batch's actions, and their losses for a target.

        Args:
            tensordict: observations and actions, batch shape [*].
            target: value float [*, 1], the same for all critics.

        Returns:
            Values float [*, E] and losses float [*, E], by default their squared errors.
        """
        values = self(tensordict).get(self.out_keys[0])
        return values, (values - target).pow(2)

    def subset(self, values: Tensor, members: Tensor | None) -> Tensor:
        """Values of the critics ``members`` int64 [K] of what ``evaluate`` returned."""
        return values if members is None else values[..., members]

    def per_critic(self, values: Tensor) -> Tensor:
        """Value of each critic, [*, N, E], of what ``evaluate`` returned; quantiles: their mean."""
        return values


def reduce_critics(values: Tensor, reduction: CriticReduction) -> Tensor:
    """Minimum or mean over critics, float [*] of values float [*, E]."""
    return values.amin(-1) if reduction == "min" else values.mean(-1)


def require_reduction(name: str, reduction: str) -> None:
    """Check the name of a reduction over critics.

    Raises:
        ValueError: it is unknown; ``name`` is the argument's.
    """
    if reduction not in get_args(CriticReduction):
        raise ValueError(f"{name} must be one of {get_args(CriticReduction)}, got {reduction!r}")


def candidate_inputs(
    tensordict: TensorDictBase,
    observation_keys: Sequence[NestedKey],
    candidates: Tensor,
    action_key: NestedKey,
) -> TensorDictBase:
    """Observations [*], repeated for candidates float [*, N, A], with these as actions [*, N]."""
    observations = tensordict.select(*observation_keys).unsqueeze(tensordict.ndim)
    return observations.expand(candidates.shape[:-1]).copy().set(action_key, candidates)


def require_action_key(in_keys: Sequence[NestedKey], action_key: NestedKey) -> None:
    """Check that a critic reads the action.

    Raises:
        ValueError: ``in_keys`` does not contain ``action_key``.
    """
    if action_key not in in_keys:
        raise ValueError(
            f"in_keys of a critic must name the action key {action_key!r}, got {[*in_keys]}; "
            "pass action_key=... for another one"
        )
