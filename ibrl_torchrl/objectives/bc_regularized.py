"""TD3 loss with a behaviour cloning term in the actor loss, for regularised fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey, unravel_key
from torch import Tensor

from ibrl_torchrl import keys
from ibrl_torchrl.modules import FrozenPolicy, tied_copy
from ibrl_torchrl.modules.critics.base import CriticEnsembleBase
from ibrl_torchrl.objectives.ibrl_td3 import IBRLTD3Loss


class BCRegularizedTD3Loss(IBRLTD3Loss):
    """Critic and actor losses of regularised fine-tuning, RFT (arXiv 2311.02198, appendix A).

    Adds the behaviour cloning term alpha * lambda * E ||a - pi(s)||^2 over demonstrations
    (equation 3) to the actor loss of :class:`IBRLTD3Loss`, with dropout in pi as in the rest of the
    loss. lambda is 1 or, with a ``reference``, the soft Q-filter (equation 4): the fraction of the
    batch's states in which the critics value the reference's action higher than the actor's, by
    the minimum over all of them (``actor_reduction``) and without noise and dropout. Critics that
    have seen little overrate the actor, so that the filter can take effect by degrees
    (:meth:`set_q_filter`): lambda = 1 - w (1 - rate), with rate the fraction above and a weight w.

    A batch [B] carries demonstration transitions [B] under ``"demo"``, as
    :class:`~ibrl_torchrl.data.replay.ReplayWithDemos` samples them. From pixels, their images are
    encoded without a gradient, as in the rest of the actor loss.

    Args:
        actor_network: see :class:`IBRLTD3Loss`.
        qvalue_network: see :class:`IBRLTD3Loss`.
        proposals: see :class:`IBRLTD3Loss`.
        bc_weight: alpha, above 0; default 0.1.
        reference: frozen policy whose weights initialised the actor, for the soft Q-filter; None
            (default) for lambda = 1.
        settings: further keyword arguments of :class:`IBRLTD3Loss`.

    Further metrics of the actor loss: ``bc_loss``, E ||a - pi(s)||^2, and ``q_filter_rate``,
    lambda, both float scalars.

    Raises:
        ValueError: ``bc_weight`` is not above 0, or as in :class:`IBRLTD3Loss`.
    """

    out_keys = [*IBRLTD3Loss.out_keys, "bc_loss", "q_filter_rate"]

    def __init__(
        self,
        actor_network: TensorDictModuleBase,
        qvalue_network: CriticEnsembleBase,
        proposals: Sequence[TensorDictModuleBase] = (),
        *,
        bc_weight: float = 0.1,
        reference: FrozenPolicy | None = None,
        **settings: Any,
    ) -> None:
        if bc_weight <= 0:
            raise ValueError(f"bc_weight={bc_weight} must be above 0")
        super().__init__(actor_network, qvalue_network, proposals, **settings)
        self.bc_weight = bc_weight
        self.reference = reference
        # A tensor beside a flag, as torch.compile compiles anew for each number that is none.
        self.register_buffer("_q_filter_weight", self.low.new_ones(()), persistent=False)
        self._q_filter_active = True
        # Not a registered child: it runs with the actor parameters that this loss already owns.
        self.__dict__["_eval_actor"] = tied_copy(actor_network).eval()

    def set_q_filter(self, weight: float) -> None:
        """Set the soft Q-filter's weight w.

        Args:
            weight: between 0, lambda = 1 without comparing values, and 1, which it starts with.

        Raises:
            ValueError: the weight is out of range.
        """
        if not 0 <= weight <= 1:
            raise ValueError(f"weight must be between 0 and 1, got {weight}")
        self._q_filter_active = weight > 0
        self._q_filter_weight.fill_(weight)

    def _batch_keys(self) -> list[NestedKey]:
        """Required keys of a batch, with those of the reference and the demonstrations."""
        reference_keys = [] if self.reference is None else self.reference.in_keys
        read = [self.tensor_keys.action, *self._obs_keys]
        demo_keys = [unravel_key((keys.DEMO, key)) for key in read]
        return [*dict.fromkeys([*super()._batch_keys(), *reference_keys, *demo_keys])]

    def actor_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """Actor loss of a batch [B] and its demonstrations [B], with gradients for the actor only.

        Returns:
            The loss, float scalar, and detached metrics: ``actor_value`` float [B], ``bc_loss`` and
            ``q_filter_rate`` float scalars.
        """
        loss, info = super().actor_loss(tensordict)
        bc_loss = self._squared_error(tensordict.get(keys.DEMO))
        q_filter_rate = self._q_filter_rate(tensordict)
        info |= {"bc_loss": bc_loss.detach(), "q_filter_rate": q_filter_rate}
        return loss + self.bc_weight * q_filter_rate * bc_loss, info

    def _squared_error(self, demos: TensorDictBase) -> Tensor:
        """Mean squared distance E ||a - pi(s)||^2 to the demonstrations' actions."""
        action = self._actor_actions(self.actor_network, self._encode(demos))[0]
        demonstrated = demos.get(self.tensor_keys.action)
        if action.ndim > demonstrated.ndim:  # candidates [B, n, A]
            demonstrated = demonstrated.unsqueeze(-2)
        return (action - demonstrated).pow(2).sum(-1).mean()

    @torch.no_grad()
    def _q_filter_rate(self, tensordict: TensorDictBase) -> Tensor:
        """lambda, from the fraction of states in which the reference has the higher value."""
        if self.reference is None or not self._q_filter_active:
            return tensordict.get(self.tensor_keys.action).new_ones(())
        obs = self._encode(tensordict)
        actor_action = self._actor_actions(self._eval_actor, obs)[0]
        proposed = self.reference(tensordict.select(*self.reference.in_keys))
        reference_action = proposed.get(self.reference.out_keys[0])
        reference_value = self._reduced_q(obs, reference_action)
        actor_value = self._reduced_q(obs, actor_action)
        if actor_value.ndim > reference_value.ndim:  # of candidates [B, n]
            reference_value = reference_value.unsqueeze(-1)
        rate = (reference_value > actor_value).float().mean()
        return 1 - self._q_filter_weight * (1 - rate)
