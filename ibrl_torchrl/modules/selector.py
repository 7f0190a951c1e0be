"""Selection among proposed actions by the critics."""

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
    """Selector of one fixed proposal, without critics.

    Writes ``action`` float [*, A] and ``proposal`` int64 [*].

    Args:
        key: key of the proposal to execute, such as ``"bc_action"``.
        index: its index among the proposals, written as ``proposal``; 0 is the RL actor.
    """

    def __init__(self, key: str, index: int) -> None:
        super().__init__()
        self.key = key
        self.index = index
        self.in_keys = [key]
        self.out_keys = [ACTION, PROPOSAL]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the proposal [*, A] as ``action`` and its index as ``proposal`` [*]."""
        action = tensordict.get(self.key)
        index = torch.full(action.shape[:-1], self.index, device=action.device)
        return tensordict.set(ACTION, action).set(PROPOSAL, index)


class IBRLSelector(TensorDictModuleBase):
    """Choice among proposed actions by their values (arXiv 2311.02198, Algorithm 1).

    The value of each of the N candidates is the minimum over ``num_min`` critics, a random subset
    drawn once for the whole batch. One candidate is chosen:

    - ``"greedy"``: the argmax, as in the paper's Algorithm 1;
    - ``"soft"``: sampled from softmax(beta * value), as in the original code's runs from states;
    - ``"epsilon"``: the argmax, or with probability ``epsilon`` a uniformly random candidate.

    Under ``set_exploration_type(ExplorationType.DETERMINISTIC)`` the choice is greedy over the
    minimum of *all* critics and consumes no random numbers. Without a context, as in TorchRL's
    exploration modules, it is random.

    The acting policy and the TD target use this same class: the policy with the online critics (or,
    as in the original code, the target critics), the loss with the target critics.

    Writes ``action`` float [*, A]; ``proposal`` int64 [*], the index of the chosen candidate;
    ``chosen_value`` float [*, 1], its value; and ``proposal_values`` float [*, N], all values.

    Args:
        critic: critic ensemble of values [*, E]; a reference, not a copy.
        proposals: keys of the candidates, each an action float [*, A], the RL actor first. Default
            ``("rl_action", "bc_action")``. One proposal alone is TD3.
        mode: ``"greedy"`` (default), ``"soft"`` or ``"epsilon"``.
        beta: inverse temperature of the soft choice, at least 0; default 10.
        epsilon: probability of a random choice in epsilon mode, in [0, 1]; default 0.1.
        num_min: size K of the random subset, at most the number of critics; default 2.

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
        """Write the chosen action, its index and value, and the values of all proposals."""
        random = exploration_type() in (None, ExplorationType.RANDOM)
        candidates = torch.stack([tensordict.get(key) for key in self.proposals], -2)
        members = self._draw_members(candidates.device) if random else None
        values = self.score(tensordict, candidates, members)
        chosen = (self._choose(values) if random else values.argmax(-1)).unsqueeze(-1)
        action = torch.take_along_dim(candidates, chosen.unsqueeze(-1), -2).squeeze(-2)
        tensordict.set(ACTION, action)
        tensordict.set(PROPOSAL, chosen.squeeze(-1))
        tensordict.set(PROPOSAL_VALUES, values)
        return tensordict.set(CHOSEN_VALUE, values.gather(-1, chosen))

    def score(
        self, tensordict: TensorDictBase, candidates: Tensor, members: Tensor | None = None
    ) -> Tensor:
        """Minimum over critics of each candidate's value.

        Args:
            tensordict: observations, batch shape [*].
            candidates: float [*, N, A].
            members: int64 [K], indices of the critics; None (default): all.

        Returns:
            Values float [*, N].
        """
        # Calls the network directly: a TensorDict of its inputs costs as much as a small network.
        at = tensordict.ndim
        inputs = [
            candidates if key == ACTION else tensordict.get(key).unsqueeze(at)
            for key in self.critic.in_keys
        ]
        values = self.critic.module(*inputs, members=members)  # [*, N, E]
        return values.amin(-1)

    def _draw_members(self, device: torch.device) -> Tensor | None:
        """Indices int64 [K] of a random subset of the critics; None for all of them."""
        if self.num_min == self.critic.num_critics:
            return None
        return torch.randperm(self.critic.num_critics, device=device)[: self.num_min]

    def _choose(self, values: Tensor) -> Tensor:
        """Indices int64 [*] of the chosen candidates, by ``mode``, of values [*, N]."""
        if self.mode == "soft":
            # Gumbel-max sampling from softmax(beta * values), for any batch shape.
            gumbel = -torch.empty_like(values).exponential_().log()
            return (self.beta * values + gumbel).argmax(-1)
        greedy = values.argmax(-1)
        if self.mode == "epsilon":
            uniform = torch.randint_like(greedy, values.shape[-1])
            explore = torch.rand(greedy.shape, device=greedy.device) < self.epsilon
            return torch.where(explore, uniform, greedy)
        return greedy
