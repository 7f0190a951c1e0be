"""Mixture policy of DAgger, which acts while an expert labels."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

from ibrl_torchrl.keys import ACTION, EXPERT_ACTION, STATE
from ibrl_torchrl.modules import NewestState


def expert_probability(decay: float, round_index: int) -> float:
    """Probability beta_i = p^i that a step of round i executes the expert's action.

    Args:
        decay: p in [0, 1]; 0: the expert acts in round 0 alone, which often performs best in the
            paper's experience (arXiv 1011.0686, section 3).
        round_index: i, from 0.

    Example:
        >>> [expert_probability(0.5, i) for i in range(3)], expert_probability(0.0, 0)
        ([1.0, 0.5, 0.25], 1.0)
    """
    return float(decay**round_index)


class MixturePolicy(TensorDictModuleBase):
    """Mixture beta_i pi* + (1 - beta_i) pi_i of expert and learner (DAgger, arXiv 1011.0686).

    At each step the expert's action is executed with probability ``beta``, else the learner's. The
    expert is asked at every step: its action is the label of the visited state. Reads what the
    learner reads and ``state``, unbatched; writes ``action`` and ``expert_action``, float32 [A].
    Draws come from PyTorch's global random state, one at each step.

    Args:
        expert: memoryless policy that reads ``state``, float32 [S], and writes ``action``.
        learner: policy that writes ``action``.
        beta: probability of the expert's action, in [0, 1].
        state_stack: states in an observation, of which the expert reads the newest. Default 1.

    Raises:
        ValueError: ``beta`` is outside of [0, 1].

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> expert = TensorDictModule(torch.ones_like, ["state"], ["action"])
        >>> learner = TensorDictModule(torch.zeros_like, ["state"], ["action"])
        >>> step = MixturePolicy(expert, learner, 0.0)(TensorDict(state=torch.zeros(2)))
        >>> step["action"].tolist(), step["expert_action"].tolist()
        ([0.0, 0.0], [1.0, 1.0])
    """

    def __init__(
        self,
        expert: TensorDictModuleBase,
        learner: TensorDictModuleBase,
        beta: float,
        *,
        state_stack: int = 1,
    ) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must lie in [0, 1], found {beta}")
        self.in_keys = [*dict.fromkeys([STATE, *learner.in_keys])]
        self.out_keys = [ACTION, EXPERT_ACTION]
        self.expert = NewestState(expert, state_stack)
        self.learner = learner
        self.beta = beta

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the executed action and the expert's."""
        label = self.expert(tensordict.select(STATE))[ACTION]
        is_expert = bool(torch.rand(()) < self.beta)
        action = label if is_expert else self.learner(tensordict.copy())[ACTION]
        return tensordict.set(ACTION, action).set(EXPERT_ACTION, label)
