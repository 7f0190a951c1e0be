"""Losses and target updaters."""

from ibrl_torchrl.objectives.ibrl_td3 import IBRLTD3Loss
from ibrl_torchrl.objectives.updaters import PartialSoftUpdate

__all__ = ["IBRLTD3Loss", "PartialSoftUpdate"]
