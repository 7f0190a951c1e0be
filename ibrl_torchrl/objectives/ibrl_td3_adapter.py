"""Adapter of IBRL's own loss, whose target and acting side take the same way as other losses'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor

from ibrl_torchrl.modules.bounds import Bounds
from ibrl_torchrl.modules.critics.base import CriticEnsembleBase, reduce_critics
from ibrl_torchrl.modules.frozen import tied_copy
from ibrl_torchrl.modules.selector import draw_members
from ibrl_torchrl.objectives.adapters import CandidateValues, LossAdapter, hold_by_reference
from ibrl_torchrl.objectives.functional import run_policy, with_params

if TYPE_CHECKING:
    from ibrl_torchrl.objectives.ibrl_td3 import IBRLTD3Loss


class IBRLTD3Adapter(LossAdapter):
    """IBRL's TD3: target actor with clipped noise, one random subset of the critics per batch."""

    loss: IBRLTD3Loss
    gives_next_value = False
    has_proposals = True

    @property
    def actor_keys(self) -> Sequence[NestedKey]:  # type: ignore[override]
        """Keys of the actor's proposals."""
        return self.loss.actor_keys

    @property
    def further_keys(self) -> Sequence[NestedKey]:  # type: ignore[override]
        """Key of the exploration actor's proposal, where it takes part."""
        return [self.loss.exploration_key] if self.loss._bootstraps_exploration else []

    @property
    def bounds(self) -> Bounds:
        """(low, high) of the actions."""
        return self.loss.low, self.loss.high

    @property
    def num_min(self) -> int:
        """Size of the random subset."""
        return self.loss.num_min

    @property
    def acting_encoder(self) -> list[TensorDictModuleBase]:
        """Encoder in eval mode, by reference; empty from states."""
        encoder = self.loss.encoder
        return [tied_copy(encoder).eval()] if encoder.out_keys else []

    @property
    def acting_keys(self) -> list[NestedKey]:
        """Keys of the actor's proposals."""
        return self.loss.actor_keys

    def encode(self, next_tensordict: TensorDictBase) -> TensorDictBase:
        """Copy of s' with the encoder's features."""
        return self.loss.encoder(next_tensordict.select(*self.loss._next_obs_keys))

    def propose(self, tensordict: TensorDictBase) -> float:
        """Write the target actors' actions with clipped noise."""
        loss = self.loss
        output = run_policy(loss.actor_network, loss.target_actor_network_params, tensordict)
        for key in loss.actor_keys:
            tensordict.set(key, loss.add_noise(output.get(key)))
        for key in self.further_keys:
            params = loss.target_exploration_network_params
            output = run_policy(loss.exploration_network, params, tensordict)
            tensordict.set(key, loss.add_noise(output.get(key)))
        return 0.0

    def evaluate(
        self,
        tensordict: TensorDictBase,
        candidates: Tensor,
        width: int | None,
        *,
        all_critics: bool,
    ) -> CandidateValues:
        """Minimum or mean over a random subset of the target critics, drawn for this batch."""
        loss, critic = self.loss, self.loss.qvalue_network
        members = draw_members(critic.num_critics, loss.num_min, candidates.device)
        with with_params(loss.target_qvalue_network_params, critic):
            if not all_critics:
                drawn = by_critic = critic.evaluate(tensordict, candidates, members)
            else:
                by_critic = critic.evaluate(tensordict, candidates)
                drawn = critic.subset(by_critic, members)
        return CandidateValues(
            reduce_critics(drawn, loss.target_reduction).unsqueeze(-1), by_critic
        )

    def acting_critics(self, *, target: bool = False) -> CriticEnsembleBase:
        """Online or target critics in eval mode, by reference."""
        critic = tied_copy(self.loss.qvalue_network).eval()
        if target:
            hold_by_reference(critic, self.loss.target_qvalue_network_params)
        return critic
