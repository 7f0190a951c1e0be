"""From configuration to rollout workers."""

from __future__ import annotations

from functools import partial

from torchrl.envs import EnvBase

from ibrl_torchrl.builders.agent import Agent
from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.config.task import TaskConfig
from ibrl_torchrl.rollouts.collector import EXPLORE, WARMUP
from ibrl_torchrl.rollouts.episode import LocalRollouts, Rollouts
from ibrl_torchrl.rollouts.processes import RolloutWorkers


def build_rollouts(workers: int, task: TaskConfig, env: EnvBase, agent: Agent) -> Rollouts:
    """Who plays the episodes of an agent, those it collects and those it is evaluated by.

    Args:
        workers: how many processes; 0: this one.
        task: of the workers' environments.
        env: the environment of this process, for want of workers; theirs are on its device.
        agent: whose policies are played.
    """
    policies = {**agent.policies, WARMUP: agent.warmup, EXPLORE: agent.explore}
    if workers == 0:
        return LocalRollouts(env, policies)
    return RolloutWorkers(partial(build_env, task, env.device), policies, workers)
