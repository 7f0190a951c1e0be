"""Simulators as TorchRL environments. Importing this package imports no simulator."""

from ibrl_torchrl.envs.factory import make_env, make_env_like
from ibrl_torchrl.envs.gym import gym_env
from ibrl_torchrl.envs.metaworld import MetaWorldEnv
from ibrl_torchrl.envs.robosuite import RobosuiteEnv

__all__ = ["MetaWorldEnv", "RobosuiteEnv", "gym_env", "make_env", "make_env_like"]
