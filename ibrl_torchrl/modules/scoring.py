"""Critic values of proposals, without a choice among them."""

from __future__ import annotations

from collections.abc import Sequence

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey

from ibrl_torchrl.keys import PROPOSAL_VALUES
from ibrl_torchrl.modules.choice import gather_candidates
from ibrl_torchrl.modules.critics.base import CriticEnsembleBase, CriticReduction
from ibrl_torchrl.modules.selector import IBRLSelector


class ScoreProposals(TensorDictModuleBase):
    """Critic values of proposals, for the diagnosis of policies that choose among fewer of them.

    Writes ``proposal_values`` float [*, P], the minimum (or mean) over all critics for each
    proposal (of a set of candidates, its highest), and leaves ``action`` unchanged.

    Args:
        critic: critic ensemble.
        proposals: keys of P proposals, each float [*, A] or [*, n, A].
        reduction: ``"min"`` (default) or ``"mean"`` over critics.

    Raises:
        ValueError: ``proposals`` is empty, or ``reduction`` is unknown.
    """

    def __init__(
        self,
        critic: CriticEnsembleBase,
        proposals: Sequence[NestedKey],
        *,
        reduction: CriticReduction = "min",
    ) -> None:
        super().__init__()
        self._selector = IBRLSelector(
            critic, proposals, num_min=critic.num_critics, reduction=reduction
        )
        self.in_keys = self._selector.in_keys
        self.out_keys = [PROPOSAL_VALUES]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write ``proposal_values`` [*, P] in the order of the proposals."""
        candidates = gather_candidates(tensordict, self._selector.proposals)
        values = self._selector.score(tensordict, candidates.actions)
        return tensordict.set(PROPOSAL_VALUES, candidates.best(values))
