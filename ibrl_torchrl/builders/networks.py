"""Networks from settings."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from tensordict.nn import NormalParamExtractor, TensorDictModule
from torch import nn
from torchrl.data import Composite, TensorSpec
from torchrl.modules import MLP, ProbabilisticActor, TanhNormal

from ibrl_torchrl.builders.normalization import Normalizers, with_action
from ibrl_torchrl.config.networks import CriticConfig, EncoderConfig, NetworkConfig
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import ACTION, PROPRIO, STATE, STATE_ACTION_VALUE, image_key
from ibrl_torchrl.modules import (
    CameraEncoder,
    CriticOutput,
    DrQConvolutions,
    DrQCriticEnsemble,
    FeatureActor,
    FlattenHead,
    GaussianNoise,
    HLGauss,
    LinearHead,
    PixelFeatures,
    PixelPolicy,
    ResidualActor,
    ResNet18,
    ResNet96,
    ScalarOutput,
    SpatialCriticEnsemble,
    SpatialHead,
    StateActor,
    StateCritic,
    StateCriticEnsemble,
    StateFeatures,
    StochasticPolicy,
    ViT,
)
from ibrl_torchrl.modules.encoders import Fusion
from ibrl_torchrl.modules.heads import Head
from ibrl_torchrl.modules.imitation.features import Features
from ibrl_torchrl.modules.spatial import ChannelWeights

PolicyNetwork = StateActor | PixelPolicy | StochasticPolicy

ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "vit": ViT,
    "resnet18": ResNet18,
    "resnet96": ResNet96,
    "drq": DrQConvolutions,
}


def policy_keys(*encoders: EncoderConfig | None) -> list[str]:
    """Observation keys that policies with these encoders read, without duplicates.

    A policy without an encoder reads the state, others read images and, if set, proprioception.
    """
    keys: list[str] = []
    for encoder in encoders:
        if encoder is None:
            keys.append(STATE)
        else:
            keys += [*map(image_key, encoder.cameras), *proprio_keys(encoder)]
    return [*dict.fromkeys(keys)]


def proprio_keys(encoder: EncoderConfig) -> list[str]:
    """Observation keys that are read beside the images."""
    return [PROPRIO] if encoder.proprio else []


def build_encoder(config: EncoderConfig, spec: Composite) -> CameraEncoder:
    """Encoder of camera images.

    Raises:
        UsageError: a camera is not rendered, or the network does not fit the images.
    """
    shapes = []
    for camera in config.cameras:
        if image_key(camera) not in spec:
            raise UsageError(
                f"encoder.cameras: {camera} is not rendered; add it to task.cameras=[...]"
            )
        shapes.append(tuple(spec[image_key(camera)].shape))
    try:
        networks = [
            ENCODERS[config.network](size, channels, **config.settings)
            for channels, size, _ in shapes
        ]
        return CameraEncoder(
            networks,
            shapes,
            shift=config.shift,
            fusion=cast(Fusion, config.fusion),
            dtype=getattr(torch, config.precision),
            memory_format=torch.channels_last if config.channels_last else torch.contiguous_format,
        )
    except (ValueError, TypeError) as error:  # TypeError: a setting that the network lacks
        raise UsageError(f"encoder {config.network}: {error}") from error


def build_policy(
    network: NetworkConfig,
    encoder: EncoderConfig | None,
    normalizers: Normalizers,
    spec: Composite,
    action_size: int,
) -> StateActor | PixelPolicy:
    """Deterministic policy network, from images with an encoder of its own."""
    if encoder is None:
        return build_state_actor(network, normalizers, action_size)
    own_encoder = build_encoder(encoder, spec)
    return PixelPolicy(
        own_encoder,
        build_feature_actor(network, encoder, own_encoder.feature_shape, normalizers, action_size),
    )


def build_state_actor(
    network: NetworkConfig, normalizers: Normalizers, action_size: int
) -> StateActor:
    """Policy network of states."""
    return StateActor(
        copy.deepcopy(normalizers[STATE]),
        action_size,
        hidden=network.hidden,
        dropout=network.dropout,
    )


def build_residual_actor(
    network: NetworkConfig,
    normalizers: Normalizers,
    spec: Composite,
    action_size: int,
    scale: float,
) -> ResidualActor:
    """Policy network of states that edits a base action."""
    normalize = with_action(normalizers[STATE], spec[STATE].shape[-1], action_size)
    editor = StateActor(normalize, action_size, hidden=network.hidden, dropout=network.dropout)
    return ResidualActor(editor, scale=scale)


def build_stochastic_actor(
    network: NetworkConfig, normalizers: Normalizers, action_spec: TensorSpec
) -> ProbabilisticActor:
    """Actor of states with a normal distribution squashed by tanh; writes ``"action"``."""
    normalize = copy.deepcopy(normalizers[STATE])
    mlp = MLP(
        in_features=normalize.size,
        out_features=2 * action_spec.shape[-1],
        num_cells=[*network.hidden],
        activation_class=nn.ReLU,
        dropout=network.dropout or None,
    )
    parameters = nn.Sequential(
        normalize, mlp, NormalParamExtractor(scale_mapping="biased_softplus_0.5")
    )
    return ProbabilisticActor(
        TensorDictModule(parameters, in_keys=[STATE], out_keys=["loc", "scale"]),
        in_keys=["loc", "scale"],
        out_keys=[ACTION],
        distribution_class=TanhNormal,
        return_log_prob=True,
        spec=Composite({ACTION: action_spec}),
    )


def build_separate_critics(
    critic: CriticConfig, normalizers: Normalizers, action_size: int, outputs: int
) -> list[TensorDictModule]:
    """Independently initialised critics of states, for losses that hold them separately."""

    def network() -> StateCritic:
        return StateCritic(
            copy.deepcopy(normalizers[STATE]),
            action_size,
            hidden=critic.hidden,
            layer_norm=critic.layer_norm,
            outputs=outputs,
        )

    return [
        TensorDictModule(network(), in_keys=[STATE, ACTION], out_keys=[STATE_ACTION_VALUE])
        for _ in range(critic.num_critics)
    ]


def build_feature_actor(
    network: NetworkConfig,
    encoder: EncoderConfig,
    feature_shape: tuple[int, int],
    normalizers: Normalizers,
    action_size: int,
) -> FeatureActor:
    """Policy network of an encoder's features."""
    proprio, proprio_size = _proprio(encoder, normalizers)
    return FeatureActor(
        _head(network, feature_shape, proprio_size),
        action_size,
        proprio=proprio,
        proprio_size=proprio_size,
        hidden=network.hidden,
        dropout=network.dropout,
    )


def build_features(
    network: NetworkConfig,
    encoder: EncoderConfig | None,
    normalizers: Normalizers,
    spec: Composite,
) -> Features:
    """Observations as one vector, from images with an encoder of its own."""
    if encoder is None:
        return StateFeatures(copy.deepcopy(normalizers[STATE]))
    own_encoder = build_encoder(encoder, spec)
    proprio, proprio_size = _proprio(encoder, normalizers)
    return PixelFeatures(
        own_encoder,
        _head(network, own_encoder.feature_shape, proprio_size),
        proprio=proprio,
        proprio_size=proprio_size,
    )


def _head(network: NetworkConfig, feature_shape: tuple[int, int], proprio_size: int) -> Head:
    size, dropout = network.head_size, network.dropout
    heads: dict[str, Callable[[], Head]] = {
        "flatten": lambda: FlattenHead(feature_shape),
        "linear": lambda: LinearHead(feature_shape, size, dropout=dropout),
        "spatial": lambda: SpatialHead(
            feature_shape, size, proprio_size=proprio_size, dropout=dropout
        ),
    }
    return heads[network.head]()


def _critic_output(critic: CriticConfig) -> CriticOutput:
    if critic.output == "hl_gauss":
        return HLGauss(critic.v_min, critic.v_max, bins=critic.bins, sigma_ratio=critic.sigma_ratio)
    return ScalarOutput()


def build_state_critics(
    critic: CriticConfig, normalizers: Normalizers, action_size: int
) -> StateCriticEnsemble:
    """Critic ensemble of states."""
    return StateCriticEnsemble(
        copy.deepcopy(normalizers[STATE]),
        action_size,
        num_critics=critic.num_critics,
        hidden=critic.hidden,
        layer_norm=critic.layer_norm,
        output=_critic_output(critic),
    )


def build_feature_critics(
    critic: CriticConfig,
    encoder: EncoderConfig,
    feature_shape: tuple[int, int],
    normalizers: Normalizers,
    action_size: int,
) -> SpatialCriticEnsemble | DrQCriticEnsemble:
    """Critic ensemble of an encoder's features."""
    proprio, proprio_size = _proprio(encoder, normalizers)
    settings: dict[str, Any] = {
        "proprio": proprio,
        "proprio_size": proprio_size,
        "num_critics": critic.num_critics,
        "embedding": critic.head_size,
        "hidden": critic.hidden,
        "output": _critic_output(critic),
    }
    if critic.head == "drq":
        return DrQCriticEnsemble(feature_shape, action_size, **settings)
    return SpatialCriticEnsemble(
        feature_shape, action_size, weights=cast(ChannelWeights, critic.channel_weights), **settings
    )


def _proprio(encoder: EncoderConfig, normalizers: Normalizers) -> tuple[nn.Module | None, int]:
    if not encoder.proprio:
        return None, 0
    normalize = copy.deepcopy(normalizers[PROPRIO])
    noise = GaussianNoise(encoder.proprio_noise)
    return nn.Sequential(normalize, noise), normalize.size
