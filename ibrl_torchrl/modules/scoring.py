"""Values of proposals beside the executed action."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

from ibrl_torchrl.keys import PROPOSAL_VALUES
from ibrl_torchrl.modules.critics.state import CriticEnsemble
from ibrl_torchrl.modules.selector import IBRLSelector


class ScoreProposals(TensorDictModuleBase):
    """Critic values of proposals, for diagnosis of a policy that does not consider all of them.

    Args:
        critic: ensemble whose minimum over all members values a proposal.
        proposals: keys of the proposals, each an action [*, A].

    Writes ``proposal_values`` float [*, N].
    """

    def __init__(self, critic: CriticEnsemble, proposals: Sequence[str]) -> None:
        super().__init__()
        self._selector = IBRLSelector(critic, proposals, num_min=critic.num_critics)
        self.in_keys = self._selector.in_keys
        self.out_keys = [PROPOSAL_VALUES]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the values [*, N] in the order of the proposals."""
        candidates = torch.stack([tensordict.get(key) for key in self._selector.proposals], -2)
        return tensordict.set(PROPOSAL_VALUES, self._selector.score(tensordict, candidates))
