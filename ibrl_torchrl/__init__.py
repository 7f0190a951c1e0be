"""Imitation Bootstrapped Reinforcement Learning (arXiv 2311.02198) as TorchRL components."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Name -> subpackage. Imported on first use: the command line and each part load only what they
# need, and TorchRL alone takes seconds.
_PUBLIC = {
    "CameraEncoder": "modules",
    "LinearHead": "modules",
    "DrQCriticEnsemble": "modules",
    "CriticEnsemble": "modules",
    "DrQConvolutions": "modules",
    "ExecuteProposal": "modules",
    "FeatureActor": "modules",
    "FlattenHead": "modules",
    "FrozenPolicy": "modules",
    "GaussianNoise": "modules",
    "IBRLSelector": "modules",
    "PixelPolicy": "modules",
    "RandomShift": "modules",
    "CachedProposal": "modules",
    "ResNet18": "modules",
    "ResNet96": "modules",
    "SpatialCriticEnsemble": "modules",
    "SpatialHead": "modules",
    "Normalize": "modules",
    "StateActor": "modules",
    "StateCriticEnsemble": "modules",
    "ViT": "modules",
    "tied_copy": "modules",
    "BCRegularizedTD3Loss": "objectives",
    "IBRLTD3Loss": "objectives",
    "PartialSoftUpdate": "objectives",
    "MetaWorldEnv": "envs",
    "RobosuiteEnv": "envs",
    "make_env": "envs",
    "make_env_like": "envs",
    "ConstantReward": "data.replay",
    "MixedReplay": "data.replay",
    "EpisodeToTransitions": "data.replay",
    "CacheProposals": "data.replay",
    "DeduplicateImages": "data.replay",
    "ReplayWithDemos": "data.replay",
    "episode_buffer": "data.replay",
    "load_demos": "data.demos",
    "record_demos": "data.demos",
    "save_demos": "data.demos",
    "scripted_expert": "experts",
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
