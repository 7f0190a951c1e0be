"""Imitation policies that represent a distribution of actions: mixture, CVAE, flow, ..."""

from ibrl_torchrl.modules.imitation.act import ACTPolicy
from ibrl_torchrl.modules.imitation.base import StochasticPolicy, is_stochastic
from ibrl_torchrl.modules.imitation.cvae import CVAEPolicy
from ibrl_torchrl.modules.imitation.diffusion import DiffusionPolicy
from ibrl_torchrl.modules.imitation.features import PixelFeatures, StateFeatures
from ibrl_torchrl.modules.imitation.flow import FlowPolicy
from ibrl_torchrl.modules.imitation.mixture import GaussianMixture, GaussianMixturePolicy
from ibrl_torchrl.modules.imitation.recurrent import RecurrentMixturePolicy, RecurrentPolicy

__all__ = [
    "ACTPolicy",
    "CVAEPolicy",
    "DiffusionPolicy",
    "FlowPolicy",
    "GaussianMixture",
    "GaussianMixturePolicy",
    "PixelFeatures",
    "RecurrentMixturePolicy",
    "RecurrentPolicy",
    "StateFeatures",
    "StochasticPolicy",
    "is_stochastic",
]
