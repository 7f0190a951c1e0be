"""Loss modules, the bootstrap proposal for TorchRL's losses, loss terms and target updaters."""

from ibrl_torchrl.objectives.acting import hybrid_policy
from ibrl_torchrl.objectives.bc_regularized import BCRegularizedTD3Loss
from ibrl_torchrl.objectives.bootstrap import ProposalValueEstimator, bootstrap_from
from ibrl_torchrl.objectives.ibrl_td3 import IBRLTD3Loss
from ibrl_torchrl.objectives.imitation import CVAELoss, FlowMatchingLoss, LogLikelihoodLoss
from ibrl_torchrl.objectives.terms import LossTerm, summed_term
from ibrl_torchrl.objectives.updaters import PartialSoftUpdate

__all__ = [
    "BCRegularizedTD3Loss",
    "CVAELoss",
    "FlowMatchingLoss",
    "IBRLTD3Loss",
    "LogLikelihoodLoss",
    "LossTerm",
    "PartialSoftUpdate",
    "ProposalValueEstimator",
    "bootstrap_from",
    "hybrid_policy",
    "summed_term",
]
