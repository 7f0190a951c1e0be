"""Critic ensemble of separate TorchRL critics."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor, nn

from ibrl_torchrl.keys import ACTION, STATE_ACTION_VALUE
from ibrl_torchrl.modules.critics.base import (
    CriticEnsembleBase,
    candidate_inputs,
    require_action_key,
)


class SeparateCritics(CriticEnsembleBase):
    """Critic ensemble of separate modules, such as TorchRL's ``ValueOperator``.

    Runs any critic, one after another. :class:`CriticEnsemble` with a batched network is faster.

    Writes values float [*, E] under ``"state_action_value"``.

    Args:
        critics: E modules that read the same keys and write a value float [*, 1] each.
        action_key: key of the action, default ``"action"``.

    Raises:
        ValueError: there is no critic, or it does not read ``action_key`` or writes no value.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from torchrl.modules import MLP, ValueOperator
        >>> network = MLP(in_features=6, out_features=1, num_cells=[8])
        >>> critic = SeparateCritics.copies(ValueOperator(network, ["state", "action"]), 3)
        >>> td = TensorDict(state=torch.zeros(5, 4), action=torch.zeros(5, 2), batch_size=[5])
        >>> critic(td)["state_action_value"].shape
        torch.Size([5, 3])
    """

    def __init__(
        self, critics: Sequence[TensorDictModuleBase], *, action_key: NestedKey = ACTION
    ) -> None:
        super().__init__()
        if not critics:
            raise ValueError("critics must not be empty")
        first = critics[0]
        require_action_key(first.in_keys, action_key)
        self.critics = nn.ModuleList(critics)
        self.action_key = action_key
        self._value_key = (
            STATE_ACTION_VALUE if STATE_ACTION_VALUE in first.out_keys else first.out_keys[-1]
        )
        self.in_keys = [*first.in_keys]
        self.out_keys = [STATE_ACTION_VALUE]

    @classmethod
    def copies(
        cls, critic: TensorDictModuleBase, count: int, *, action_key: NestedKey = ACTION
    ) -> SeparateCritics:
        """Ensemble of independently initialised copies of a critic.

        As in TorchRL's losses, no copy shares parameters with the critic itself, whose layers may
        also be the actor's.

        Args:
            critic: TensorDict module whose layers have ``reset_parameters``.
            count: number of critics E.
            action_key: key of the action, default ``"action"``.

        Raises:
            ValueError: the critic's parameters cannot be initialised anew.
        """
        if count < 1:
            raise ValueError(f"the number of critics must be at least 1, got {count}")
        copies = [copy.deepcopy(critic) for _ in range(count)]
        for other in copies:
            for module in other.modules():
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()
            pairs = [*zip(critic.parameters(), other.parameters(), strict=True)]
            if count > 1 and pairs and all(torch.equal(one, two) for one, two in pairs):
                raise ValueError(
                    "no layer of the critic has reset_parameters, so that all copies would be "
                    f"equal; pass a list of {count} critics"
                )
        return cls(copies, action_key=action_key)

    @property
    def num_critics(self) -> int:
        """Number of critics E."""
        return len(self.critics)

    def evaluate(
        self, tensordict: TensorDictBase, candidates: Tensor, members: Tensor | None = None
    ) -> Tensor:
        """Values [*, N, E] of candidates [*, N, A]."""
        inputs = candidate_inputs(tensordict, self.observation_keys, candidates, self.action_key)
        values = torch.cat(
            [critic(inputs.copy()).get(self._value_key) for critic in self.critics], -1
        )
        # Indexed afterwards: choosing modules by a tensor would read it back from a GPU.
        return values if members is None else values[..., members]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the values of the action, [*, E]."""
        action = tensordict.get(self.action_key).unsqueeze(-2)
        return tensordict.set(self.out_keys[0], self.evaluate(tensordict, action).squeeze(-2))
