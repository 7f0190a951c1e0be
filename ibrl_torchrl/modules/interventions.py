"""Interventions: somebody else's action in place of the policy's, and a scripted stand-in."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor

from ibrl_torchrl.keys import (
    ACTION,
    INTERVENTION,
    IS_INIT,
    NO_PROPOSAL,
    PROPOSAL,
    STEPS_TO_INTERVENTION,
)

_NEVER = torch.iinfo(torch.int64).max  # steps to an intervention


class InterventionPolicy(TensorDictModuleBase):
    """Policy whose actions an intervention may replace, as a person's may on a robot.

    The policy acts first. Where the intervention's flag is true its action is executed instead, and
    ``proposal`` is -1. The policy is evaluated at every step, so that its own state goes on.

    Args:
        policy: writes ``action``, float [*, A], and ``proposal`` if it selects one.
        intervention: reads what the policy reads and writes; writes ``action``, which is ignored
            where its flag is false, the flag ``intervention``, bool [*, 1], and, if it has a state
            between steps, that state. :class:`TakeOver` is one.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> policy = TensorDictModule(torch.zeros_like, ["state"], ["action"])
        >>> expert = TensorDictModule(torch.ones_like, ["state"], ["action"])
        >>> acting = InterventionPolicy(policy, TakeOver(expert, after=2))
        >>> td = TensorDict(state=torch.zeros(1))
        >>> [acting(td)["action"].item() for _ in range(4)]
        [0.0, 0.0, 1.0, 1.0]
    """

    def __init__(self, policy: TensorDictModuleBase, intervention: TensorDictModuleBase) -> None:
        super().__init__()
        self.policy = policy
        self.intervention = intervention
        others = [key for key in intervention.in_keys if key not in policy.out_keys]
        self.in_keys = [*dict.fromkeys([*policy.in_keys, *others])]
        self.out_keys = [*dict.fromkeys([*policy.out_keys, *intervention.out_keys])]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the executed ``action`` [*, A], ``intervention`` [*, 1], and what both write."""
        tensordict = self.policy(tensordict)
        action, proposal = tensordict.get(ACTION), tensordict.get(PROPOSAL, None)
        override = self.intervention(tensordict.copy()).select(*self.intervention.out_keys)
        intervention = override.get(INTERVENTION)
        tensordict.update(override)
        tensordict.set(ACTION, torch.where(intervention, override.get(ACTION), action))
        if proposal is not None:
            chosen = proposal.masked_fill(intervention.view_as(proposal), NO_PROPOSAL)
            tensordict.set(PROPOSAL, chosen)
        return tensordict


class TakeOver(TensorDictModuleBase):
    """Scripted intervention: in a share of episodes an expert acts from some step to the end.

    It stands in for a person who watches the policy and takes over. Whether it does in an episode
    is drawn at its start from PyTorch's global random state. The state between steps,
    ``steps_to_intervention``, is carried in the TensorDict, as ``EnvBase.rollout`` and collectors
    do. An episode starts where it is missing or ``is_init`` (``InitTracker``) is true.

    Args:
        expert: policy that writes ``action``, float [*, A]. It is evaluated only where it acts, so
            its action must not depend on previous steps.
        after: number of steps of an episode before the expert acts, at least 0.
        probability: share of episodes in which it does, in [0, 1]. Default 1.

    Raises:
        ValueError: ``after`` or ``probability`` is out of range.
    """

    def __init__(
        self, expert: TensorDictModuleBase, *, after: int, probability: float = 1.0
    ) -> None:
        super().__init__()
        if after < 0:
            raise ValueError(f"after must be at least 0, got {after}")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must lie in [0, 1], got {probability}")
        self.expert = expert
        self.after = after
        self.probability = probability
        self.in_keys = [*dict.fromkeys([*expert.in_keys, ACTION])]
        self.out_keys = [ACTION, INTERVENTION, STEPS_TO_INTERVENTION]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write ``intervention`` [*, 1] and, where it is true, the expert's ``action`` [*, A]."""
        steps = self._steps(tensordict)
        intervention = steps == 0
        tensordict.set(STEPS_TO_INTERVENTION, steps).set(INTERVENTION, intervention)
        if bool(intervention.any()):
            expert = self.expert(tensordict.select(*self.expert.in_keys)).get(ACTION)
            action = torch.where(intervention, expert, tensordict.get(ACTION))
            tensordict.set(ACTION, action)
        return tensordict

    def _steps(self, tensordict: TensorDictBase) -> Tensor:
        """Steps until the expert acts, int64 [*, 1]; 0 where it acts now."""
        previous = tensordict.get(STEPS_TO_INTERVENTION, None)
        is_init = tensordict.get(IS_INIT, None)
        if previous is not None and (is_init is None or not bool(is_init.any())):
            return (previous - 1).clamp(min=0)
        action = tensordict.get(ACTION)
        drawn = torch.rand_like(action[..., :1]) < self.probability
        steps = torch.where(drawn, self.after, _NEVER)
        if previous is None or is_init is None:
            return steps
        return torch.where(is_init, steps, (previous - 1).clamp(min=0))
