"""Networks, policies and the selector; no environments, files or configurations."""

from ibrl_torchrl.modules.actors import StateActor
from ibrl_torchrl.modules.critics import CriticEnsemble, StateCriticEnsemble
from ibrl_torchrl.modules.frozen import FrozenPolicy, shared_twin
from ibrl_torchrl.modules.lean import LeanTensorDictModule
from ibrl_torchrl.modules.selector import ExecuteProposal, IBRLSelector
from ibrl_torchrl.modules.standardize import Standardize

__all__ = [
    "CriticEnsemble",
    "ExecuteProposal",
    "FrozenPolicy",
    "IBRLSelector",
    "LeanTensorDictModule",
    "Standardize",
    "StateActor",
    "StateCriticEnsemble",
    "shared_twin",
]
