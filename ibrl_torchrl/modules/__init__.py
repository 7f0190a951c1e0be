"""Networks, policies and the proposal selector, as PyTorch and TensorDict modules."""

from ibrl_torchrl.modules.actors import FeatureActor, PixelPolicy, StateActor
from ibrl_torchrl.modules.augment import GaussianNoise, RandomShift
from ibrl_torchrl.modules.choice import ProposalChoice
from ibrl_torchrl.modules.chunks import ChunkExecutor, ChunkPrefix
from ibrl_torchrl.modules.critics.network import CriticNetwork
from ibrl_torchrl.modules.critics.outputs import CriticOutput, HLGauss, ScalarOutput
from ibrl_torchrl.modules.critics.pixels import DrQCriticEnsemble, SpatialCriticEnsemble
from ibrl_torchrl.modules.critics.separate import SeparateCritics
from ibrl_torchrl.modules.critics.stacked import StackedCritics
from ibrl_torchrl.modules.critics.state import CriticEnsemble, StateCritic, StateCriticEnsemble
from ibrl_torchrl.modules.encoders import CameraEncoder, DrQConvolutions, ResNet18, ResNet96, ViT
from ibrl_torchrl.modules.exploration import CorrelatedNoise, ExplorationPolicy, ValueScaledNoise
from ibrl_torchrl.modules.external import ExternalPolicy
from ibrl_torchrl.modules.fallback import FallbackPolicy, SuccessTest
from ibrl_torchrl.modules.fast_module import FastTensorDictModule
from ibrl_torchrl.modules.frozen import CachedProposal, FrozenPolicy, tied_copy
from ibrl_torchrl.modules.gates import AgreementGate, ConfidenceGate, Gate
from ibrl_torchrl.modules.heads import FlattenHead, LinearHead, SpatialHead
from ibrl_torchrl.modules.imitation import (
    ACTPolicy,
    CVAEPolicy,
    DiffusionPolicy,
    FlowPolicy,
    GaussianMixture,
    GaussianMixturePolicy,
    PixelFeatures,
    RecurrentMixturePolicy,
    RecurrentPolicy,
    StateFeatures,
    StochasticPolicy,
    is_stochastic,
)
from ibrl_torchrl.modules.interventions import InterventionPolicy, TakeOver
from ibrl_torchrl.modules.newest_state import NewestState
from ibrl_torchrl.modules.normalize import Normalize
from ibrl_torchrl.modules.proposers import ActorProposal, SampledProposals
from ibrl_torchrl.modules.residual import ResidualActor, ResidualAndActor
from ibrl_torchrl.modules.scoring import ScoreProposals
from ibrl_torchrl.modules.selector import ExecuteProposal, IBRLSelector

__all__ = [
    "ACTPolicy",
    "ActorProposal",
    "AgreementGate",
    "CVAEPolicy",
    "CachedProposal",
    "CameraEncoder",
    "ChunkExecutor",
    "ChunkPrefix",
    "ConfidenceGate",
    "CorrelatedNoise",
    "CriticEnsemble",
    "CriticNetwork",
    "CriticOutput",
    "DiffusionPolicy",
    "DrQConvolutions",
    "DrQCriticEnsemble",
    "ExecuteProposal",
    "ExplorationPolicy",
    "ExternalPolicy",
    "FallbackPolicy",
    "FastTensorDictModule",
    "FeatureActor",
    "FlattenHead",
    "FlowPolicy",
    "FrozenPolicy",
    "Gate",
    "GaussianMixture",
    "GaussianMixturePolicy",
    "GaussianNoise",
    "HLGauss",
    "IBRLSelector",
    "InterventionPolicy",
    "LinearHead",
    "NewestState",
    "Normalize",
    "PixelFeatures",
    "PixelPolicy",
    "ProposalChoice",
    "RandomShift",
    "RecurrentMixturePolicy",
    "RecurrentPolicy",
    "ResNet18",
    "ResNet96",
    "ResidualActor",
    "ResidualAndActor",
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
    "SuccessTest",
    "TakeOver",
    "ValueScaledNoise",
    "ViT",
    "is_stochastic",
    "tied_copy",
]
