"""Choice among candidate actions by their values, and collection of the candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torch import Tensor

from ibrl_torchrl.modules.gates import Gate

SelectionMode = Literal["greedy", "soft", "epsilon"]


class Candidates(NamedTuple):
    """Candidate actions of several proposals.

    Attributes:
        actions: float [*, N, A].
        counts: number of candidates of each proposal, in order; they add up to N.
    """

    actions: Tensor
    counts: tuple[int, ...]

    @property
    def single(self) -> bool:
        """Whether every proposal has one candidate, so that indices of both are the same."""
        return len(self.counts) == self.actions.shape[-2]

    def proposal(self, index: Tensor) -> Tensor:
        """Index of the proposal of each candidate index, int64 of the same shape."""
        if self.single:
            return index
        owners = [torch.full((n,), i, device=index.device) for i, n in enumerate(self.counts)]
        return torch.cat(owners)[index]

    def best(self, values: Tensor) -> Tensor:
        """Highest value of each proposal's candidates, [*, P] of values [*, N]."""
        if self.single:
            return values
        return torch.stack([part.amax(-1) for part in values.split(self.counts, -1)], -1)


def gather_candidates(tensordict: TensorDictBase, proposals: Sequence[NestedKey]) -> Candidates:
    """Candidates of all proposals.

    Args:
        tensordict: holds the proposals, batch shape [*].
        proposals: keys of actions float [*, A], or of sets of candidates float [*, n, A].

    Raises:
        ValueError: a proposal is missing or of another shape; names it.
    """
    actions = []
    for key in proposals:
        action = tensordict.get(key, None)
        if action is None:
            raise ValueError(
                f"proposal {key!r} is not in the TensorDict, which has {[*tensordict.keys(True)]}; "
                "run the policy that writes it first"
            )
        extra = action.ndim - tensordict.ndim
        if extra not in (1, 2):
            raise ValueError(
                f"proposal {key!r} has shape {[*action.shape]}; for batch shape "
                f"{[*tensordict.batch_size]} it must be [*, A] or, for n candidates, [*, n, A]"
            )
        actions.append(action if extra == 2 else action.unsqueeze(-2))
    sizes = {action.shape[-1] for action in actions}
    if len(sizes) > 1:
        shapes = {key: [*action.shape] for key, action in zip(proposals, actions, strict=True)}
        raise ValueError(f"proposals must have actions of one size, got {shapes}")
    return Candidates(torch.cat(actions, -2), tuple(action.shape[-2] for action in actions))


class ProposalChoice:
    """Choice of one of N candidates by their values.

    - ``"greedy"``: the argmax, as in the paper's Algorithm 1;
    - ``"soft"``: sampled from softmax(beta * value), as in the original code's runs from states;
    - ``"epsilon"``: the argmax, or with probability ``epsilon`` a uniformly random candidate.

    Args:
        mode: ``"greedy"`` (default), ``"soft"`` or ``"epsilon"``.
        beta: inverse temperature of the soft choice, at least 0; default 10.
        epsilon: probability of a random choice in epsilon mode, in [0, 1]; default 0.1.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, mode: SelectionMode = "greedy", *, beta: float = 10.0, epsilon: float = 0.1
    ) -> None:
        if mode not in get_args(SelectionMode):
            raise ValueError(f"mode must be one of {get_args(SelectionMode)}, got {mode!r}")
        if beta < 0:
            raise ValueError(f"beta must not be negative, got {beta}")
        if not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon must be in [0, 1], got {epsilon}")
        self.mode = mode
        self.beta = beta
        self.epsilon = epsilon

    def __call__(self, values: Tensor, eligible: Tensor | None = None) -> Tensor:
        """Choose by ``mode``.

        Args:
            values: float [*, N].
            eligible: bool [*, N], candidates that may be chosen; None (default): all.

        Returns:
            Indices int64 [*].
        """
        if self.mode == "soft":
            return _sample(_mask(self.beta * values, eligible))
        greedy = self.greedy(values, eligible)
        if self.mode == "epsilon":
            if eligible is None:
                uniform = torch.randint_like(greedy, values.shape[-1])
            else:
                uniform = _sample(_mask(torch.zeros_like(values), eligible))
            explore = torch.rand(greedy.shape, device=greedy.device) < self.epsilon
            return torch.where(explore, uniform, greedy)
        return greedy

    @staticmethod
    def greedy(values: Tensor, eligible: Tensor | None = None) -> Tensor:
        """Argmax of values [*, N] over the eligible candidates, int64 [*]."""
        return _mask(values, eligible).argmax(-1)


def eligible_candidates(
    gate: Gate, per_critic: Tensor, values: Tensor, trusted: Sequence[bool], counts: Sequence[int]
) -> Tensor:
    """Candidates that take part in a cautious choice.

    Args:
        gate: test of candidates against the best trusted one.
        per_critic: float [*, N, E], value of each candidate by each critic.
        values: float [*, N], by which candidates are compared.
        trusted: for each proposal, whether its candidates always take part.
        counts: number of candidates of each proposal.

    Returns:
        bool [*, N].
    """
    # Filled on the device: a list would be copied there, and the copy waits for it.
    owners = [
        torch.full((n,), flag, device=values.device)
        for flag, n in zip(trusted, counts, strict=True)
    ]
    is_trusted = torch.cat(owners)
    best = _mask(values, is_trusted.expand_as(values)).argmax(-1)
    index = best[..., None, None].expand(*best.shape, 1, per_critic.shape[-1])
    return is_trusted | gate(per_critic, per_critic.gather(-2, index))


def _mask(values: Tensor, eligible: Tensor | None) -> Tensor:
    return values if eligible is None else values.masked_fill(~eligible, -torch.inf)


def _sample(logits: Tensor) -> Tensor:
    """Indices sampled from softmax(logits), for any batch shape, by the Gumbel-max trick."""
    gumbel = -torch.empty_like(logits).exponential_().log()
    return (logits + gumbel).argmax(-1)
