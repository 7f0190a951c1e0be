"""Critic ensembles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ibrl_torchrl.keys import ACTION, STATE_ACTION_VALUE
from ibrl_torchrl.modules.critics.ensemble import EnsembleMLP
from ibrl_torchrl.modules.fast_module import FastTensorDictModule
from ibrl_torchrl.modules.normalize import Normalize

# Up to here, copying the weights of some members costs more than evaluating all of them in place.
_FEW_ROWS = 16


class StateCriticEnsemble(nn.Module):
    """E critics of a state vector and an action, evaluated together.

    Paper, appendix E: E = 5 critics of three layers with layer norm for states. All
    members start from independent initialisations; a subset can be evaluated alone, at its own
    cost only.

    Args:
        standardize: observation statistics; gives the state size S.
        action_size: number of action dimensions A.
        num_critics: E, default 5.
        hidden: width of each hidden layer, default three of 1024.
        layer_norm: normalise after each hidden layer, default True.

    Raises:
        ValueError: ``num_critics`` is less than one.
    """

    def __init__(
        self,
        standardize: Normalize,
        action_size: int,
        *,
        num_critics: int = 5,
        hidden: Sequence[int] = (1024, 1024, 1024),
        layer_norm: bool = True,
    ) -> None:
        super().__init__()
        if num_critics < 1:
            raise ValueError(f"num_critics must be at least 1, got {num_critics}")
        self.num_critics = num_critics
        self.standardize = standardize
        self.mlp = EnsembleMLP(
            num_critics, standardize.size + action_size, hidden, layer_norm=layer_norm
        )

    def forward(self, state: Tensor, action: Tensor, members: Tensor | None = None) -> Tensor:
        """Evaluate all critics, or those of ``members``.

        Args:
            state: float [*, S]; its batch shape may hold ones where the action's does not.
            action: float [*, A].
            members: int64 [K], indices of the critics to evaluate; all by default.

        Returns:
            float [*, E], or [*, K] in the order of ``members``.
        """
        batch = action.shape[:-1]
        if members is not None and batch.numel() <= _FEW_ROWS:
            return self(state, action)[..., members]
        count = self.num_critics if members is None else members.numel()
        state = self.standardize(state).expand(*batch, -1)
        inputs = torch.cat([state, action], -1).reshape(1, batch.numel(), -1)
        values = self.mlp(inputs.expand(count, -1, -1), members)
        return values.squeeze(-1).T.reshape(*batch, count)


class CriticEnsemble(FastTensorDictModule):
    """An ensemble network as a TensorDict module: the contract of selector and loss.

    Args:
        network: module with ``num_critics`` and ``forward(*observations, action, members=None)``
            returning [*, E], or [*, K] for K ``members``; :class:`StateCriticEnsemble` is one.
            To value several actions of one observation, observations come with batch shape
            [*, 1] and actions with [*, N]: what depends on the observation alone is computed once.
        in_keys: its observation keys, the action key last.
        out_key: where the values go, default ``"state_action_value"``.

    ``forward(tensordict, members=None)`` writes the values.
    """

    def __init__(
        self,
        network: nn.Module,
        in_keys: Sequence[str],
        out_key: str = STATE_ACTION_VALUE,
    ) -> None:
        if ACTION not in in_keys:
            raise ValueError(f"in_keys must name the action key {ACTION!r}, got {[*in_keys]}")
        super().__init__(network, in_keys=[*in_keys], out_keys=[out_key])

    @property
    def num_critics(self) -> int:
        """Number of critics E."""
        return self.module.num_critics

    @property
    def observation_keys(self) -> list[str]:
        """The input keys without the action."""
        return [key for key in self.in_keys if key != ACTION]
