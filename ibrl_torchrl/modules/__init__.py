"""Networks, policies and the selector; no environments, files or configurations."""

from ibrl_torchrl.modules.actors import FeatureActor, PixelPolicy, StateActor
from ibrl_torchrl.modules.augment import GaussianNoise, RandomShift
from ibrl_torchrl.modules.compression import Compressed, Flat, SpatiallyEmbedded
from ibrl_torchrl.modules.critics import CriticEnsemble, StateCriticEnsemble
from ibrl_torchrl.modules.encoders import (
    CameraEncoder,
    DrQConvolutions,
    ResNet18,
    ResNet96,
    ViT,
)
from ibrl_torchrl.modules.frozen import FrozenPolicy, RecordedProposal, shared_twin
from ibrl_torchrl.modules.lean import LeanTensorDictModule
from ibrl_torchrl.modules.pixel_critics import CompressedCriticEnsemble, SpatialCriticEnsemble
from ibrl_torchrl.modules.selector import ExecuteProposal, IBRLSelector
from ibrl_torchrl.modules.standardize import Standardize

__all__ = [
    "CameraEncoder",
    "Compressed",
    "CompressedCriticEnsemble",
    "CriticEnsemble",
    "DrQConvolutions",
    "ExecuteProposal",
    "FeatureActor",
    "Flat",
    "FrozenPolicy",
    "GaussianNoise",
    "IBRLSelector",
    "LeanTensorDictModule",
    "PixelPolicy",
    "RandomShift",
    "RecordedProposal",
    "ResNet18",
    "ResNet96",
    "SpatialCriticEnsemble",
    "SpatiallyEmbedded",
    "Standardize",
    "StateActor",
    "StateCriticEnsemble",
    "ViT",
    "shared_twin",
]
