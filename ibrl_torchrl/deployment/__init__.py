"""Policies of a run outside of its simulator: acting on arrays, and export."""

from ibrl_torchrl.deployment.load import load_policy
from ibrl_torchrl.deployment.policy import Decision, RunPolicy

__all__ = ["Decision", "RunPolicy", "load_policy"]
