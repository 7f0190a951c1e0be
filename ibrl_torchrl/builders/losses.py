"""Losses from settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tensordict.nn import TensorDictModuleBase

from ibrl_torchrl.config.algo import LossConfig, ProposalsConfig
from ibrl_torchrl.keys import proposal_key
from ibrl_torchrl.modules import CachedProposal, CriticEnsemble, FrozenPolicy
from ibrl_torchrl.objectives import BCRegularizedTD3Loss, IBRLTD3Loss


class Networks(NamedTuple):
    """Trained networks of an agent.

    Attributes:
        encoder: image encoder; None for states.
        actor: actor, writes the RL action.
        critic: critic ensemble.
    """

    encoder: TensorDictModuleBase | None
    actor: TensorDictModuleBase
    critic: CriticEnsemble


def build_loss(
    config: LossConfig,
    choice: ProposalsConfig,
    networks: Networks,
    policies: Mapping[str, FrozenPolicy],
    *,
    reference: FrozenPolicy | None = None,
    cached_proposals: bool = False,
) -> IBRLTD3Loss:
    """Loss that owns networks and targets.

    Args:
        config: settings of the loss.
        choice: settings of the proposals, here those of the TD target.
        networks: networks to train.
        policies: imitation policies by name.
        reference: policy of the soft Q-filter, which initialised the actor.
        cached_proposals: batches hold the imitation policies' actions.
    """
    proposals = [
        CachedProposal(proposal_key(name)) if cached_proposals else policies[name]
        for name in choice.bootstrap.policies[1:]
    ]
    settings: dict[str, Any] = {
        "encoder": networks.encoder,
        "bootstrap": choice.bootstrap.select,
        "beta": choice.beta,
        "epsilon": choice.epsilon,
        "num_min": choice.num_min,
        "policy_noise": config.policy_noise,
        "noise_clip": config.noise_clip,
        "noisy_actor_loss": config.noisy_actor_loss,
    }
    if config.bc_weight > 0:
        loss: IBRLTD3Loss = BCRegularizedTD3Loss(
            networks.actor,
            networks.critic,
            proposals,
            bc_weight=config.bc_weight,
            reference=reference if config.q_filter else None,
            **settings,
        )
    else:
        loss = IBRLTD3Loss(networks.actor, networks.critic, proposals, **settings)
    loss.make_value_estimator(gamma=config.gamma)
    return loss
