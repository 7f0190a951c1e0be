"""The heart of IBRL: the critic picks among proposed actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.envs.utils import ExplorationType, exploration_type

from ibrl_torchrl.keys import ACTION, BC_ACTION, CHOSEN_VALUE, PROPOSAL, PROPOSAL_VALUES, RL_ACTION
from ibrl_torchrl.modules.critics.state import CriticEnsemble

SelectionMode = Literal["greedy", "soft", "epsilon"]


class ExecuteProposal(TensorDictModuleBase):
    """Execute one proposal without asking anyone.

    Args:
        key: the proposal to execute, such as ``"bc_action"``.
        index: its number among the proposals, written as ``proposal``; 0 is the RL actor.
    """

    def __init__(self, key: str, index: int) -> None:
        super().__init__()
        self.key = key
        self.index = index
        self.in_keys = [key]
        self.out_keys = [ACTION, PROPOSAL]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Copy the proposal [*, A] to ``action`` and write ``proposal`` [*]."""
        action = tensordict.get(self.key)
        index = torch.full(action.shape[:-1], self.index, device=action.device)
        return tensordict.set(ACTION, action).set(PROPOSAL, index)


class IBRLSelector(TensorDictModuleBase):
    """Choose among proposed actions by the critics' opinion (paper, Algorithm 1, lines 9 and 15).

    The candidates ``[*, N, A]`` are scored with the minimum over ``num_min`` critics, drawn once
    for the whole batch. Then one is chosen:

    - ``"greedy"``: the best, as in the paper's Algorithm 1;
    - ``"soft"``: sampled from softmax(beta * value), as in the original code's state runs;
    - ``"epsilon"``: the best, or with probability ``epsilon`` any of them.

    Under ``set_exploration_type(ExplorationType.DETERMINISTIC)`` the choice is greedy over the
    minimum of *all* critics, so that evaluation draws nothing. Without a context, as in TorchRL's
    exploration modules, it is random.

    The acting policy and the TD target use this same class: acting on the online critics (or, as
    the original code does, on the targets), the loss on the target critics.

    Args:
        critic: scores ``[*, E]``; its parameters are used where they are, not copied.
        proposals: keys of the candidates, the RL actor first. One alone is plain TD3.
        mode: how to choose, default ``"greedy"``.
        beta: inverse temperature of the soft choice, default 10.
        epsilon: share of random choices in the epsilon mode, default 0.1.
        num_min: size K of the drawn subset, default 2; at most the number of critics.

    Writes ``action`` float [*, A]; ``proposal`` int64 [*], the index of the chosen candidate;
    ``chosen_value`` float [*, 1], its score; and ``proposal_values`` float [*, N], all scores.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> class Distance(torch.nn.Module):
        ...     num_critics = 2
        ...     def forward(self, state, action, members=None):
        ...         value = -(state - action).abs().sum(-1, keepdim=True)
        ...         return value.expand(*value.shape[:-1], 2)
        >>> selector = IBRLSelector(CriticEnsemble(Distance(), ["state", "action"]))
        >>> td = TensorDict(state=torch.zeros(1), rl_action=torch.ones(1),
        ...                 bc_action=torch.full((1,), 0.2))
        >>> td = selector(td)
        >>> td["action"].item(), td["proposal"].item()
        (0.20000000298023224, 1)
    """

    def __init__(
        self,
        critic: CriticEnsemble,
        proposals: Sequence[str] = (RL_ACTION, BC_ACTION),
        *,
        mode: SelectionMode = "greedy",
        beta: float = 10.0,
        epsilon: float = 0.1,
        num_min: int = 2,
    ) -> None:
        super().__init__()
        if not proposals:
            raise ValueError("proposals must name at least one key")
        if mode not in get_args(SelectionMode):
            raise ValueError(f"mode must be one of {get_args(SelectionMode)}, got {mode!r}")
        if beta < 0:
            raise ValueError(f"beta must not be negative, got {beta}")
        if not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon must be in [0, 1], got {epsilon}")
        if not 1 <= num_min <= critic.num_critics:
            raise ValueError(
                f"num_min must be between 1 and the {critic.num_critics} critics, got {num_min}"
            )
        self.critic = critic
        self.proposals = [*proposals]
        self.mode = mode
        self.beta = beta
        self.epsilon = epsilon
        self.num_min = num_min
        self.in_keys = [*critic.observation_keys, *proposals]
        self.out_keys = [ACTION, PROPOSAL, CHOSEN_VALUE, PROPOSAL_VALUES]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the chosen action, which proposal it was, its value and all values."""
        random = exploration_type() in (None, ExplorationType.RANDOM)
        candidates = torch.stack([tensordict.get(key) for key in self.proposals], -2)
        values = self.score(tensordict, candidates, self._draw(candidates) if random else None)
        chosen = (self._choose(values) if random else values.argmax(-1)).unsqueeze(-1)
        action = torch.take_along_dim(candidates, chosen.unsqueeze(-1), -2).squeeze(-2)
        tensordict.set(ACTION, action)
        tensordict.set(PROPOSAL, chosen.squeeze(-1))
        tensordict.set(PROPOSAL_VALUES, values)
        return tensordict.set(CHOSEN_VALUE, values.gather(-1, chosen))

    def score(
        self, tensordict: TensorDictBase, candidates: Tensor, members: Tensor | None = None
    ) -> Tensor:
        """Value every candidate pessimistically.

        Args:
            tensordict: holds the observations, batch shape [*].
            candidates: float [*, N, A].
            members: int64 [K], the critics to ask; all by default.

        Returns:
            float [*, N]: the minimum over the asked critics.
        """
        # Not by a TensorDict of the inputs, which costs as much as a small network does.
        at = tensordict.ndim
        inputs = [
            candidates if key == ACTION else tensordict.get(key).unsqueeze(at)
            for key in self.critic.in_keys
        ]
        values = self.critic.module(*inputs, members=members)  # [*, N, E]
        return values.amin(-1)

    def _draw(self, like: Tensor) -> Tensor | None:
        if self.num_min == self.critic.num_critics:
            return None
        return torch.randperm(self.critic.num_critics, device=like.device)[: self.num_min]

    def _choose(self, values: Tensor) -> Tensor:
        if self.mode == "soft":
            # The Gumbel-max form of sampling from softmax(beta * values), for any batch shape.
            gumbel = -torch.empty_like(values).exponential_().log()
            return (self.beta * values + gumbel).argmax(-1)
        best = values.argmax(-1)
        if self.mode == "epsilon":
            anyone = torch.randint_like(best, values.shape[-1])
            stray = torch.rand(best.shape, device=best.device) < self.epsilon
            return torch.where(stray, anyone, best)
        return best
