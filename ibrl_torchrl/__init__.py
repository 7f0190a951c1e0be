"""Imitation Bootstrapped Reinforcement Learning (arXiv 2311.02198) as TorchRL components."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Name -> subpackage. Imported on first use: the command line and each part load only what they
# need, and TorchRL alone takes seconds.
_PUBLIC = {
    "CriticEnsemble": "modules",
    "ExecuteProposal": "modules",
    "FrozenPolicy": "modules",
    "IBRLSelector": "modules",
    "Standardize": "modules",
    "StateActor": "modules",
    "StateCriticEnsemble": "modules",
    "shared_twin": "modules",
    "IBRLTD3Loss": "objectives",
    "PartialSoftUpdate": "objectives",
    "MetaWorldEnv": "envs",
    "make_env": "envs",
    "DemoShareReplay": "data",
    "EpisodeToTransitions": "data",
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
