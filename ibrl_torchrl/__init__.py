"""Imitation Bootstrapped Reinforcement Learning (arXiv 2311.02198) as TorchRL components."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Name -> subpackage. Imported on first use: the command line and each part load only what they
# need, and TorchRL alone takes seconds.
_PUBLIC = {
    "CameraEncoder": "modules",
    "Compressed": "modules",
    "CompressedCriticEnsemble": "modules",
    "CriticEnsemble": "modules",
    "DrQConvolutions": "modules",
    "ExecuteProposal": "modules",
    "FeatureActor": "modules",
    "Flat": "modules",
    "FrozenPolicy": "modules",
    "GaussianNoise": "modules",
    "IBRLSelector": "modules",
    "PixelPolicy": "modules",
    "RandomShift": "modules",
    "RecordedProposal": "modules",
    "ResNet18": "modules",
    "ResNet96": "modules",
    "SpatialCriticEnsemble": "modules",
    "SpatiallyEmbedded": "modules",
    "Standardize": "modules",
    "StateActor": "modules",
    "StateCriticEnsemble": "modules",
    "ViT": "modules",
    "shared_twin": "modules",
    "BCRegularizedTD3Loss": "objectives",
    "IBRLTD3Loss": "objectives",
    "PartialSoftUpdate": "objectives",
    "MetaWorldEnv": "envs",
    "RobosuiteEnv": "envs",
    "make_env": "envs",
    "make_env_like": "envs",
    "ConstantReward": "data",
    "DemoShareReplay": "data",
    "EpisodeToTransitions": "data",
    "RecordProposals": "data",
    "StoreFramesOnce": "data",
    "WithDemos": "data",
    "episode_buffer": "data",
    "load_demos": "data",
    "record_demos": "data",
    "save_demos": "data",
    "scripted_expert": "data",
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
