"""Losses from settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from tensordict.nn import TensorDictModuleBase
from torchrl.data import TensorSpec
from torchrl.objectives import LossModule, REDQLoss, SACLoss, TQCLoss

from ibrl_torchrl.config.algo import AlgoConfig, ProposalsConfig
from ibrl_torchrl.modules import AgreementGate, ConfidenceGate, FrozenPolicy, Gate
from ibrl_torchrl.modules.choice import SelectionMode
from ibrl_torchrl.objectives import (
    BCRegularizedTD3Loss,
    IBRLTD3Loss,
    LossTerm,
    bootstrap_from,
    summed_term,
)
from ibrl_torchrl.objectives.bootstrap import ChooseBy


class Networks(NamedTuple):
    """Trained networks of an agent.

    Attributes:
        encoder: image encoder; None for states.
        actor: actor, writes the RL action, or ``"action"`` for TorchRL's losses.
        critic: ``CriticEnsemble``, or a list of separate critics for TorchRL's losses.
        exploration: second actor, writes the exploration action; None: there is none.
    """

    encoder: TensorDictModuleBase | None
    actor: TensorDictModuleBase
    critic: Any
    exploration: TensorDictModuleBase | None = None


class Objective(NamedTuple):
    """Loss with what a learner minimises and logs of it.

    Attributes:
        loss: owner of networks and targets.
        terms: loss terms by name.
        metrics: names of the scalars of an update, in the order of columns.
    """

    loss: LossModule
    terms: dict[str, LossTerm]
    metrics: list[str]


def build_objective(
    algo: AlgoConfig,
    networks: Networks,
    proposals: Mapping[str, TensorDictModuleBase],
    action_spec: TensorSpec,
    *,
    reference: FrozenPolicy | None = None,
) -> Objective:
    """Loss of an algorithm.

    Args:
        algo: settings of the algorithm.
        networks: networks to train.
        proposals: imitation policies' proposals by name, as the TD target reads them.
        action_spec: action space.
        reference: policy of the soft Q-filter, which initialised the actor.
    """
    chosen = [proposals[name] for name in algo.proposals.bootstrap.policies[1:]]
    if algo.loss.algorithm == "td3":
        td3 = _td3_loss(algo, networks, chosen, reference)
        return Objective(td3, td3.terms(), td3.metrics)
    loss = _torchrl_loss(algo, networks, action_spec)
    choice = algo.proposals
    bootstrap_from(
        loss,
        chosen,
        mode=cast(SelectionMode, choice.bootstrap.select),
        beta=choice.beta,
        epsilon=choice.epsilon,
        gate=build_gate(choice.bootstrap.gate, choice),
        choose_by=cast(ChooseBy, algo.loss.choose_by),
        gamma=algo.loss.gamma,
    )
    losses = ["loss_qvalue", "loss_actor", "loss_alpha"]
    return Objective(
        loss,
        summed_term(loss, "qvalue_network"),
        ["loss", *losses, "alpha", "entropy", "next_value"],
    )


def build_gate(kind: str, config: ProposalsConfig) -> Gate | None:
    """Gate of a choice; None for ``"none"``."""
    if kind == "agreement":
        return AgreementGate(config.gate_level)
    return ConfidenceGate(config.gate_level) if kind == "confidence" else None


def _td3_loss(
    algo: AlgoConfig,
    networks: Networks,
    proposals: list[TensorDictModuleBase],
    reference: FrozenPolicy | None,
) -> IBRLTD3Loss:
    config, choice = algo.loss, algo.proposals
    settings: dict[str, Any] = {
        "encoder": networks.encoder,
        "bootstrap": choice.bootstrap.select,
        "beta": choice.beta,
        "epsilon": choice.epsilon,
        "num_min": choice.num_min,
        "target_reduction": choice.bootstrap.reduction,
        "actor_reduction": config.actor_reduction,
        "policy_noise": config.policy_noise,
        "noise_clip": config.noise_clip,
        "noisy_actor_loss": config.noisy_actor_loss,
        "gate": build_gate(choice.bootstrap.gate, choice),
        "exploration_network": networks.exploration,
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
    return loss.make_value_estimator(gamma=config.gamma)


def _torchrl_loss(algo: AlgoConfig, networks: Networks, action_spec: TensorSpec) -> LossModule:
    """Loss of TorchRL by its name."""
    config = algo.loss
    settings: dict[str, Any] = {
        "num_qvalue_nets": algo.critic.num_critics,
        "alpha_init": config.alpha,
        "fixed_alpha": config.alpha_fixed,
        "target_entropy": -float(action_spec.shape[-1]),
    }
    actor, critics = networks.actor, networks.critic
    if config.algorithm == "sac":
        return SACLoss(actor, critics, loss_function="l2", **settings)
    if config.algorithm == "tqc":
        return TQCLoss(
            actor, critics, top_quantiles_to_drop_per_net=config.quantiles_dropped, **settings
        )
    loss = REDQLoss(
        actor,
        critics,
        sub_sample_len=algo.proposals.num_min,
        min_alpha=1e-6,
        max_alpha=1.0,
        loss_function="l2",
        **settings,
    )
    loss.target_entropy  # noqa: B018  # registers a buffer that a checkpoint holds
    return loss
