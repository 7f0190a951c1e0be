"""Critic values of proposals, without a choice among them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

from ibrl_torchrl.keys import PROPOSAL_VALUES
from ibrl_torchrl.modules.critics.state import CriticEnsemble
from ibrl_torchrl.modules.selector import IBRLSelector


class ScoreProposals(TensorDictModuleBase):
    """Critic values of proposals, for the diagnosis of policies that choose among fewer of them.

    Writes ``proposal_values`` float [*, N], the minimum over all critics for each proposal, and
    leaves ``action`` unchanged.

    Args:
        critic: critic ensemble.
        proposals: keys of the proposals, each an action float [*, A].

    Raises:
        ValueError: ``proposals`` is empty.
    """

    def __init__(self, critic: CriticEnsemble, proposals: Sequence[str]) -> None:
        super().__init__()
        self._selector = IBRLSelector(critic, proposals, num_min=critic.num_critics)
        self.in_keys = self._selector.in_keys
        self.out_keys = [PROPOSAL_VALUES]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write ``proposal_values`` [*, N] in the order of the proposals."""
        candidates = torch.stack([tensordict.get(key) for key in self._selector.proposals], -2)
        return tensordict.set(PROPOSAL_VALUES, self._selector.score(tensordict, candidates))
