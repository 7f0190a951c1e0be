"""Registry of imitation policies: network and loss of each kind, from settings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, cast

from tensordict.nn import TensorDictModule, TensorDictModuleBase, TensorDictSequential
from torch import nn
from torchrl.data import Composite
from torchrl.objectives import ACTLoss, BCLoss, DiffusionBCLoss, LossModule

from ibrl_torchrl.builders.networks import (
    PolicyNetwork,
    build_features,
    build_policy,
    policy_keys,
)
from ibrl_torchrl.builders.normalization import Normalizers
from ibrl_torchrl.config.imitation import GMM_RNN, MLP, ImitationConfig
from ibrl_torchrl.keys import ACTION, FEATURES
from ibrl_torchrl.modules import (
    ACTPolicy,
    CVAEPolicy,
    DiffusionPolicy,
    FlowPolicy,
    GaussianMixturePolicy,
    RecurrentMixturePolicy,
    StochasticPolicy,
)
from ibrl_torchrl.objectives import CVAELoss, FlowMatchingLoss, LogLikelihoodLoss

MixturePolicy = GaussianMixturePolicy | RecurrentMixturePolicy
Loss = Callable[[PolicyNetwork, Sequence[str], ImitationConfig], TensorDictModuleBase]


@dataclass(frozen=True)
class PolicyKind:
    """Kind of imitation policy.

    Attributes:
        network: class of the network, which takes features, the number of action dimensions and
            ``settings``; None: the deterministic policy of states or of pixels.
        loss: loss of a network, observation keys and settings.
        settings: keyword arguments of the network.
        shape: names of settings that a file of weights is bound to, such as ``"gmm.components"``.
    """

    network: Callable[..., StochasticPolicy] | None
    loss: Loss
    settings: Callable[[ImitationConfig], dict[str, Any]]
    shape: tuple[str, ...] = ()


def _module(network: PolicyNetwork, keys: Sequence[str]) -> TensorDictModule:
    return TensorDictModule(network, in_keys=[*keys], out_keys=[ACTION])


def _squared_error(
    network: PolicyNetwork, keys: Sequence[str], config: ImitationConfig
) -> LossModule:
    return BCLoss(_module(network, keys), loss_function="l2")


def _log_likelihood(
    network: PolicyNetwork, keys: Sequence[str], config: ImitationConfig
) -> LossModule:
    return LogLikelihoodLoss(cast(MixturePolicy, network).probabilistic_actor(keys))


def _variational(
    network: PolicyNetwork, keys: Sequence[str], config: ImitationConfig
) -> LossModule:
    return CVAELoss(_module(network, keys), kl_weight=config.cvae.kl_weight)


def _flow_matching(
    network: PolicyNetwork, keys: Sequence[str], config: ImitationConfig
) -> LossModule:
    return FlowMatchingLoss(_module(network, keys))


def _denoising(
    network: PolicyNetwork, keys: Sequence[str], config: ImitationConfig
) -> TensorDictModuleBase:
    policy = cast(DiffusionPolicy, network)
    loss = DiffusionBCLoss(policy.actor)
    loss.set_keys(observation=FEATURES)
    # TorchRL's loss reads one vector.
    features = TensorDictModule(policy.features, in_keys=[*keys], out_keys=[FEATURES])
    return TensorDictSequential(features, loss)


def _chunk_reconstruction(
    network: PolicyNetwork, keys: Sequence[str], config: ImitationConfig
) -> TensorDictModuleBase:
    policy, loss_keys = cast(ACTPolicy, network), ACTLoss.default_keys
    model = TensorDictModule(
        policy.model,
        in_keys=["observation", "action_chunk"],
        out_keys=[loss_keys.action_pred, loss_keys.mu, loss_keys.log_var],
    )
    loss = ACTLoss(model, kl_weight=config.act.kl_weight)
    loss.set_keys(observation=FEATURES)
    loss.select_out_keys("loss_act")  # the others are its terms
    size = policy.model.action_dim
    return TensorDictSequential(
        TensorDictModule(policy.features, in_keys=[*keys], out_keys=[FEATURES]),
        TensorDictModule(
            nn.Unflatten(-1, (-1, size)), in_keys=[ACTION], out_keys=[loss_keys.action_chunk]
        ),
        loss,
    )


def _mlp(config: ImitationConfig) -> dict[str, Any]:
    """Arguments of an MLP, as in the deterministic policies."""
    return {
        "hidden": config.network.hidden,
        "dropout": config.network.dropout,
        "layer_norm": config.encoder is not None,
    }


# By the name in imitation.NAME.policy.
POLICY_KINDS = {
    MLP: PolicyKind(None, _squared_error, _mlp),
    "gmm": PolicyKind(
        GaussianMixturePolicy,
        _log_likelihood,
        lambda config: {
            **_mlp(config),
            "components": config.gmm.components,
            "min_std": config.gmm.min_std,
        },
        ("network.hidden", "gmm.components"),
    ),
    "cvae": PolicyKind(
        CVAEPolicy,
        _variational,
        lambda config: {**_mlp(config), "latent_size": config.cvae.latent_size},
        ("network.hidden", "cvae.latent_size"),
    ),
    "flow": PolicyKind(
        FlowPolicy,
        _flow_matching,
        lambda config: {**_mlp(config), "steps": config.flow.steps},
        ("network.hidden",),
    ),
    "diffusion": PolicyKind(
        DiffusionPolicy,
        _denoising,
        lambda config: {**_mlp(config), "steps": config.diffusion.steps},
        ("network.hidden", "diffusion.steps"),
    ),
    GMM_RNN: PolicyKind(
        RecurrentMixturePolicy,
        _log_likelihood,
        lambda config: vars(config.gmm_rnn),
        ("gmm_rnn.components", "gmm_rnn.width", "gmm_rnn.layers", "gmm_rnn.horizon"),
    ),
    "act": PolicyKind(
        ACTPolicy,
        _chunk_reconstruction,
        lambda config: {
            "chunk_size": config.chunk.size,
            "dropout": config.network.dropout,
            "width": config.act.width,
            "layers": config.act.layers,
            "heads": config.act.heads,
            "latent_size": config.act.latent_size,
        },
        ("act.width", "act.layers", "act.heads", "act.latent_size"),
    ),
}


def build_imitation_policy(
    config: ImitationConfig, normalizers: Normalizers, spec: Composite, action_size: int
) -> PolicyNetwork:
    """Network of an imitation policy.

    Args:
        config: settings of the policy.
        normalizers: normalisation of observations by key; the network takes a copy.
        spec: observations of the environment.
        action_size: numbers of a flat chunk of actions.
    """
    kind, network = POLICY_KINDS[config.policy], config.network
    if kind.network is None:
        return build_policy(network, config.encoder, normalizers, spec, action_size)
    return kind.network(
        build_features(network, config.encoder, normalizers, spec),
        action_size,
        **kind.settings(config),
    )


def imitation_loss(network: PolicyNetwork, config: ImitationConfig) -> TensorDictModuleBase:
    """Loss of an imitation policy, on the network's own parameters; writes ``loss_*``."""
    with warnings.catch_warnings():
        # TorchRL 0.14's BCLoss does not declare a target that it never has.
        warnings.filterwarnings("ignore", message="The name target_actor_network_params")
        return POLICY_KINDS[config.policy].loss(network, policy_keys(config.encoder), config)


def shape_meta(config: ImitationConfig) -> dict[str, Any]:
    """Kind, network settings and action chunk that the weights of a policy belong to.

    Empty for an ``mlp`` of single actions: names and shapes of its tensors suffice.
    """
    kind = POLICY_KINDS[config.policy]
    chunk = {} if config.chunk.size == 1 else {"chunk.size": config.chunk.size}
    if kind.network is None:
        return chunk
    shape = {name: attrgetter(name)(config) for name in kind.shape}
    return {**chunk, "policy": config.policy, **shape}
