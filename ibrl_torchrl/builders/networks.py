"""From configuration to networks."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torchrl.data import Composite

from ibrl_torchrl.builders.normalization import Scales
from ibrl_torchrl.config.networks import CriticConfig, EncoderConfig, NetworkConfig
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import PROPRIO, STATE, image_key
from ibrl_torchrl.modules import (
    CameraEncoder,
    DrQConvolutions,
    DrQCriticEnsemble,
    FeatureActor,
    FlattenHead,
    GaussianNoise,
    LinearHead,
    PixelPolicy,
    ResNet18,
    ResNet96,
    SpatialCriticEnsemble,
    SpatialHead,
    StateActor,
    StateCriticEnsemble,
    ViT,
)

ENCODERS = {"vit": ViT, "resnet18": ResNet18, "resnet96": ResNet96, "drq": DrQConvolutions}


def observed_keys(encoder: EncoderConfig | None) -> list[str]:
    """What a network reads of an observation: the state, or images and proprioception."""
    if encoder is None:
        return [STATE]
    return [*map(image_key, encoder.cameras), *extra_keys(encoder)]


def extra_keys(encoder: EncoderConfig) -> list[str]:
    """What is read beside the images."""
    return [PROPRIO] if encoder.proprio else []


def build_encoder(config: EncoderConfig, spec: Composite) -> CameraEncoder:
    """The encoder of a configuration's cameras.

    Raises:
        UsageError: a camera is not rendered, or the network does not suit the images.
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
            fusion=config.fusion,
            dtype=getattr(torch, config.precision),
            memory_format=torch.channels_last if config.channels_last else torch.contiguous_format,
        )
    except (ValueError, TypeError) as error:  # TypeError: a setting that the network lacks
        raise UsageError(f"encoder {config.network}: {error}") from error


def build_policy(
    network: NetworkConfig,
    encoder: EncoderConfig | None,
    scales: Scales,
    spec: Composite,
    action_size: int,
) -> StateActor | PixelPolicy:
    """A policy of observations, with an encoder of its own where it sees images."""
    if encoder is None:
        return build_state_actor(network, scales, action_size)
    eyes = build_encoder(encoder, spec)
    return PixelPolicy(
        eyes, build_feature_actor(network, encoder, eyes.feature_shape, scales, action_size)
    )


def build_state_actor(network: NetworkConfig, scales: Scales, action_size: int) -> StateActor:
    """A policy of the state."""
    return StateActor(
        copy.deepcopy(scales[STATE]), action_size, hidden=network.hidden, dropout=network.dropout
    )


def build_feature_actor(
    network: NetworkConfig,
    encoder: EncoderConfig,
    feature_shape: tuple[int, int],
    scales: Scales,
    action_size: int,
) -> FeatureActor:
    """A policy of an encoder's features."""
    proprio, proprio_size = _proprio(encoder, scales)
    size, dropout = network.embedding_size, network.dropout
    embedding = {
        "flat": lambda: FlattenHead(feature_shape),
        "compressed": lambda: LinearHead(feature_shape, size, dropout=dropout),
        "spatial": lambda: SpatialHead(
            feature_shape, size, proprio_size=proprio_size, dropout=dropout
        ),
    }[network.embedding]()
    return FeatureActor(
        embedding,
        action_size,
        proprio=proprio,
        proprio_size=proprio_size,
        hidden=network.hidden,
        dropout=dropout,
    )


def build_state_critics(
    critic: CriticConfig, scales: Scales, action_size: int
) -> StateCriticEnsemble:
    """Critics of the state."""
    return StateCriticEnsemble(
        copy.deepcopy(scales[STATE]),
        action_size,
        num_critics=critic.number,
        hidden=critic.hidden,
        layer_norm=critic.layer_norm,
    )


def build_feature_critics(
    critic: CriticConfig,
    encoder: EncoderConfig,
    feature_shape: tuple[int, int],
    scales: Scales,
    action_size: int,
) -> SpatialCriticEnsemble | DrQCriticEnsemble:
    """Critics of an encoder's features."""
    proprio, proprio_size = _proprio(encoder, scales)
    settings = {
        "proprio": proprio,
        "proprio_size": proprio_size,
        "num_critics": critic.number,
        "embedding": critic.embedding_size,
        "hidden": critic.hidden,
    }
    if critic.embedding == "compressed":
        return DrQCriticEnsemble(feature_shape, action_size, **settings)
    return SpatialCriticEnsemble(feature_shape, action_size, weights=critic.weights, **settings)


def _proprio(encoder: EncoderConfig, scales: Scales) -> tuple[nn.Module | None, int]:
    if not encoder.proprio:
        return None, 0
    standardize = copy.deepcopy(scales[PROPRIO])
    noise = GaussianNoise(encoder.proprio_noise)
    return nn.Sequential(standardize, noise), standardize.size
