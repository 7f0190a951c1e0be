"""Simulators as TorchRL environments. Importing this package imports no simulator."""

from ibrl_torchrl.envs.factory import make_env
from ibrl_torchrl.envs.metaworld import MetaWorldEnv

__all__ = ["MetaWorldEnv", "make_env"]
