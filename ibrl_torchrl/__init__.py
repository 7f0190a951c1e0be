"""Imitation Bootstrapped Reinforcement Learning (arXiv 2311.02198) as TorchRL components."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ibrl_torchrl.data.demos import load_demos, record_demos, save_demos
    from ibrl_torchrl.data.replay import (
        CacheProposals,
        ChunkActions,
        ConstantReward,
        DeduplicateImages,
        EpisodeReplayBuffer,
        EpisodeToTransitions,
        MixedReplay,
        PortablePrioritizedSampler,
        ReplayWithDemos,
        episode_buffer,
    )
    from ibrl_torchrl.deployment import Decision, RunPolicy, load_policy
    from ibrl_torchrl.envs import MetaWorldEnv, RobosuiteEnv, gym_env, make_env, make_env_like
    from ibrl_torchrl.experts import scripted_expert
    from ibrl_torchrl.modules import (
        ActorProposal,
        ACTPolicy,
        AgreementGate,
        CachedProposal,
        CameraEncoder,
        ChunkExecutor,
        ChunkPrefix,
        ConfidenceGate,
        CriticEnsemble,
        CriticNetwork,
        CriticOutput,
        CVAEPolicy,
        DiffusionPolicy,
        DrQConvolutions,
        DrQCriticEnsemble,
        ExecuteProposal,
        ExternalPolicy,
        FeatureActor,
        FlattenHead,
        FlowPolicy,
        FrozenPolicy,
        Gate,
        GaussianMixturePolicy,
        GaussianNoise,
        HLGauss,
        IBRLSelector,
        LinearHead,
        Normalize,
        PixelFeatures,
        PixelPolicy,
        ProposalChoice,
        RandomShift,
        RecurrentMixturePolicy,
        RecurrentPolicy,
        ResidualActor,
        ResNet18,
        ResNet96,
        SampledProposals,
        ScalarOutput,
        ScoreProposals,
        SeparateCritics,
        SpatialCriticEnsemble,
        SpatialHead,
        StackedCritics,
        StateActor,
        StateCritic,
        StateCriticEnsemble,
        StateFeatures,
        StochasticPolicy,
        ViT,
        tied_copy,
    )
    from ibrl_torchrl.objectives import (
        BCRegularizedTD3Loss,
        CVAELoss,
        FlowMatchingLoss,
        IBRLTD3Loss,
        LogLikelihoodLoss,
        LossTerm,
        PartialSoftUpdate,
        ProposalValueEstimator,
        bootstrap_from,
        hybrid_policy,
        summed_term,
    )

__all__ = [
    "ACTPolicy",
    "ActorProposal",
    "AgreementGate",
    "BCRegularizedTD3Loss",
    "CVAELoss",
    "CVAEPolicy",
    "CacheProposals",
    "CachedProposal",
    "CameraEncoder",
    "ChunkActions",
    "ChunkExecutor",
    "ChunkPrefix",
    "ConfidenceGate",
    "ConstantReward",
    "CriticEnsemble",
    "CriticNetwork",
    "CriticOutput",
    "Decision",
    "DeduplicateImages",
    "DiffusionPolicy",
    "DrQConvolutions",
    "DrQCriticEnsemble",
    "EpisodeReplayBuffer",
    "EpisodeToTransitions",
    "ExecuteProposal",
    "ExternalPolicy",
    "FeatureActor",
    "FlattenHead",
    "FlowMatchingLoss",
    "FlowPolicy",
    "FrozenPolicy",
    "Gate",
    "GaussianMixturePolicy",
    "GaussianNoise",
    "HLGauss",
    "IBRLSelector",
    "IBRLTD3Loss",
    "LinearHead",
    "LogLikelihoodLoss",
    "LossTerm",
    "MetaWorldEnv",
    "MixedReplay",
    "Normalize",
    "PartialSoftUpdate",
    "PixelFeatures",
    "PixelPolicy",
    "PortablePrioritizedSampler",
    "ProposalChoice",
    "ProposalValueEstimator",
    "RandomShift",
    "RecurrentMixturePolicy",
    "RecurrentPolicy",
    "ReplayWithDemos",
    "ResNet18",
    "ResNet96",
    "ResidualActor",
    "RobosuiteEnv",
    "RunPolicy",
    "SampledProposals",
    "ScalarOutput",
    "ScoreProposals",
    "SeparateCritics",
    "SpatialCriticEnsemble",
    "SpatialHead",
    "StackedCritics",
    "StateActor",
    "StateCritic",
    "StateCriticEnsemble",
    "StateFeatures",
    "StochasticPolicy",
    "ViT",
    "bootstrap_from",
    "episode_buffer",
    "gym_env",
    "hybrid_policy",
    "load_demos",
    "load_policy",
    "make_env",
    "make_env_like",
    "record_demos",
    "save_demos",
    "scripted_expert",
    "summed_term",
    "tied_copy",
]

# Searched in this order for a name at its first use: the command line and each part import only
# what they need, and TorchRL alone takes seconds.
_PACKAGES = ("modules", "objectives", "envs", "experts", "data.demos", "data.replay", "deployment")

if not TYPE_CHECKING:  # type checkers would take every name for a public one

    def __getattr__(name: str) -> Any:
        if name in __all__:
            for package in _PACKAGES:
                module = import_module(f"{__name__}.{package}")
                if name in module.__all__:
                    return getattr(module, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
