"""Interface of critic ensembles: values of candidate actions, and their reduction."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor


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

    def reduce(self, values: Tensor) -> Tensor:
        """Value by which candidates are compared: the minimum over critics, [*, N] of [*, N, E]."""
        return values.amin(-1)

    def subset(self, values: Tensor, members: Tensor | None) -> Tensor:
        """Values of the critics ``members`` int64 [K] of what ``evaluate`` returned."""
        return values if members is None else values[..., members]

    def per_critic(self, values: Tensor) -> Tensor:
        """Value of each critic, [*, N, E], of what ``evaluate`` returned; quantiles: their mean."""
        return values


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
