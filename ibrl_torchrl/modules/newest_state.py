"""Policies of single states on stacked ones."""

from __future__ import annotations

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

from ibrl_torchrl.keys import STATE


class NewestState(TensorDictModuleBase):
    """Policy of the newest of stacked states, such as a scripted expert.

    Args:
        policy: reads ``state``, float [*, S].
        state_stack: states in an observation, the newest last, at least 1.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> policy = TensorDictModule(lambda state: -state, ["state"], ["action"])
        >>> NewestState(policy, 3)(TensorDict(state=torch.arange(6.0)))["action"]
        tensor([-4., -5.])
    """

    def __init__(self, policy: TensorDictModuleBase, state_stack: int) -> None:
        super().__init__()
        self.policy = policy
        self.in_keys = [*policy.in_keys]
        self.out_keys = [*policy.out_keys]
        self._state_stack = state_stack

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write what the policy writes."""
        # A whole copy: policies with a state read optional keys that are not among their in_keys.
        inputs = tensordict.copy()
        stacked = inputs.get(STATE)
        inputs.set(STATE, stacked[..., -(stacked.shape[-1] // self._state_stack) :])
        return tensordict.update(self.policy(inputs).select(*self.out_keys))
