"""Selection among proposed actions by the critics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.envs.utils import ExplorationType, exploration_type

from ibrl_torchrl.keys import ACTION, BC_ACTION, CHOSEN_VALUE, PROPOSAL, PROPOSAL_VALUES, RL_ACTION
from ibrl_torchrl.modules.choice import (
    ProposalChoice,
    SelectionMode,
    eligible_candidates,
    gather_candidates,
)
from ibrl_torchrl.modules.critics.base import (
    CriticEnsembleBase,
    CriticReduction,
    require_reduction,
)
from ibrl_torchrl.modules.gates import Gate


class ExecuteProposal(TensorDictModuleBase):
    """Selector of one fixed proposal, without critics.

    Writes the action float [*, A] and ``proposal`` int64 [*]. Of a set of candidates [*, n, A] it
    executes the first.

    Args:
        key: key of the proposal to execute, such as ``"bc_action"``.
        index: its index among the proposals, written as ``proposal``; 0 is the RL actor.
        action_key: key of the executed action, default ``"action"``.
    """

    def __init__(self, key: NestedKey, index: int, *, action_key: NestedKey = ACTION) -> None:
        super().__init__()
        self.key = key
        self.index = index
        self.action_key = action_key
        self.in_keys = [key]
        self.out_keys = [action_key, PROPOSAL]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the proposal as the action [*, A] and its index as ``proposal`` [*]."""
        action = tensordict.get(self.key)
        if action.ndim - tensordict.ndim == 2:
            action = action[..., 0, :]
        index = torch.full(action.shape[:-1], self.index, device=action.device)
        return tensordict.set(self.action_key, action).set(PROPOSAL, index)


class IBRLSelector(TensorDictModuleBase):
    """Choice among proposed actions by their values (arXiv 2311.02198, Algorithm 1).

    A proposal is one action [*, A] or a set of candidates [*, n, A], such as samples of a
    stochastic policy. The value of each of the N candidates is the minimum (or mean) over
    ``num_min`` critics, a random subset drawn once for the whole batch. One candidate is chosen:

    - ``"greedy"``: the argmax, as in the paper's Algorithm 1;
    - ``"soft"``: sampled from softmax(beta * value), as in the original code's runs from states;
    - ``"epsilon"``: the argmax, or with probability ``epsilon`` a uniformly random candidate.

    With a ``gate``, candidates of trained policies take part only where the critics are sure that
    they beat the best ``trusted`` one.

    Under ``set_exploration_type(ExplorationType.DETERMINISTIC)`` the choice is greedy over the
    minimum (or mean) of *all* critics and consumes no random numbers. Without a context, as in
    TorchRL's exploration modules, it is random.

    The acting policy and the TD target use this same class: the policy with the online critics (or,
    as in the original code, the target critics), the loss with the target critics.

    Writes the critic's action key float [*, A]; ``proposal`` int64 [*], the index of the chosen
    proposal; ``chosen_value`` float [*, 1], its value; and ``proposal_values`` float [*, P], the
    value of each proposal, of a set that of its best candidate.

    Args:
        critic: critic ensemble of values [*, E]; a reference, not a copy.
        proposals: keys of P proposals, each float [*, A] or [*, n, A], the RL actor first. Default
            ``("rl_action", "bc_action")``. One proposal alone is TD3.
        mode: ``"greedy"`` (default), ``"soft"`` or ``"epsilon"``.
        beta: inverse temperature of the soft choice, at least 0; default 10.
        epsilon: probability of a random choice in epsilon mode, in [0, 1]; default 0.1.
        num_min: size K of the random subset, at most the number of critics; default 2.
        reduction: ``"min"`` (default, paper) or ``"mean"`` over that subset. Critics of quantiles
            have their own, see :class:`~ibrl_torchrl.modules.StackedCritics`.
        gate: cautious choice, :class:`~ibrl_torchrl.modules.AgreementGate` or
            :class:`~ibrl_torchrl.modules.ConfidenceGate`; it asks all critics. None (default):
            every candidate takes part.
        trusted: proposals that pass the gate unasked; None (default): all but the first.

    Raises:
        ValueError: an argument is out of range; in ``forward``, a proposal is missing or of another
            shape.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from ibrl_torchrl.modules import CriticEnsemble
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
        critic: CriticEnsembleBase,
        proposals: Sequence[NestedKey] = (RL_ACTION, BC_ACTION),
        *,
        mode: SelectionMode = "greedy",
        beta: float = 10.0,
        epsilon: float = 0.1,
        num_min: int = 2,
        reduction: CriticReduction = "min",
        gate: Gate | None = None,
        trusted: Sequence[NestedKey] | None = None,
    ) -> None:
        super().__init__()
        if not proposals:
            raise ValueError("proposals must name at least one key")
        if len({*proposals}) < len(proposals):
            raise ValueError(f"proposals must write distinct keys, got {[*proposals]}")
        if not 1 <= num_min <= critic.num_critics:
            raise ValueError(
                f"num_min must be between 1 and the {critic.num_critics} critics, got {num_min}"
            )
        require_reduction("reduction", reduction)
        self.choice = ProposalChoice(mode, beta=beta, epsilon=epsilon)
        self.critic = critic
        self.proposals = [*proposals]
        self.num_min = num_min
        self.reduction = reduction
        self.gate = gate
        self._trusted = require_trusted(self.proposals, trusted, gate)
        self.in_keys = [*critic.observation_keys, *proposals]
        self.out_keys = [critic.action_key, PROPOSAL, CHOSEN_VALUE, PROPOSAL_VALUES]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the chosen action, its proposal and value, and the values of all proposals."""
        random = exploration_type() in (None, ExplorationType.RANDOM)
        candidates = gather_candidates(tensordict, self.proposals)
        members = self._draw_members(candidates.actions.device) if random else None
        eligible = None
        if self.gate is None:
            values = self.score(tensordict, candidates.actions, members)
        else:
            by_critic = self.critic.evaluate(tensordict, candidates.actions)
            values = self.critic.reduce(self.critic.subset(by_critic, members), self.reduction)
            eligible = eligible_candidates(
                self.gate,
                self.critic.per_critic(by_critic),
                values,
                self._trusted,
                candidates.counts,
            )
        choose = self.choice if random else self.choice.greedy
        chosen = choose(values, eligible).unsqueeze(-1)
        actions = candidates.actions
        index = chosen.unsqueeze(-1).expand(*chosen.shape, actions.shape[-1])
        action = actions.gather(-2, index).squeeze(-2)
        tensordict.set(self.critic.action_key, action)
        tensordict.set(PROPOSAL, candidates.proposal(chosen.squeeze(-1)))
        tensordict.set(PROPOSAL_VALUES, candidates.best(values))
        return tensordict.set(CHOSEN_VALUE, values.gather(-1, chosen))

    def score(
        self, tensordict: TensorDictBase, candidates: Tensor, members: Tensor | None = None
    ) -> Tensor:
        """Value of each candidate, the minimum or mean over critics.

        Args:
            tensordict: observations, batch shape [*].
            candidates: float [*, N, A].
            members: int64 [K], indices of the critics; None (default): all.

        Returns:
            Values float [*, N].
        """
        values = self.critic.evaluate(tensordict, candidates, members)
        return self.critic.reduce(values, self.reduction)

    def _draw_members(self, device: torch.device) -> Tensor | None:
        """Indices int64 [K] of a random subset of the critics; None for all of them."""
        return draw_members(self.critic.num_critics, self.num_min, device)


def draw_members(num_critics: int, num_min: int, device: torch.device) -> Tensor | None:
    """Indices int64 [K] of a random subset of the critics; None for all of them."""
    if num_min == num_critics:
        return None
    return torch.randperm(num_critics, device=device)[:num_min]


def require_trusted(
    proposals: Sequence[NestedKey], trusted: Sequence[NestedKey] | None, gate: Gate | None
) -> tuple[bool, ...]:
    """Whether each proposal passes a gate unasked; by default all but the first.

    Raises:
        ValueError: a trusted key is not a proposal, or there is a gate and no trusted proposal.
    """
    names = [*proposals[1:]] if trusted is None else [*trusted]
    unknown = [key for key in names if key not in proposals]
    if unknown:
        raise ValueError(f"trusted must name proposals of {[*proposals]}, got {unknown}")
    if gate is not None and not names:
        raise ValueError("a gate needs at least one trusted proposal beside the first")
    return tuple(key in names for key in proposals)
