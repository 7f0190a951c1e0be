"""Loss modules, their terms, and target network updaters."""

from ibrl_torchrl.objectives.bc_regularized import BCRegularizedTD3Loss
from ibrl_torchrl.objectives.ibrl_td3 import IBRLTD3Loss
from ibrl_torchrl.objectives.terms import LossTerm
from ibrl_torchrl.objectives.updaters import PartialSoftUpdate

__all__ = ["BCRegularizedTD3Loss", "IBRLTD3Loss", "LossTerm", "PartialSoftUpdate"]
