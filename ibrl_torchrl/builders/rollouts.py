"""Rollout backend from settings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.config.task import TaskConfig
from ibrl_torchrl.rollouts.episode import LocalRollouts, Rollouts
from ibrl_torchrl.rollouts.processes import RolloutWorkers


def build_rollouts(
    workers: int,
    task: TaskConfig,
    env: EnvBase,
    policies: Mapping[str, TensorDictModuleBase],
    *,
    episode_timeout: float | None,
) -> Rollouts:
    """Rollouts in this process or in worker processes.

    Args:
        workers: number of processes; 0: this one.
        task: task of the workers' environments.
        env: environment of this process, used without workers; theirs are on its device.
        policies: policies by name.
        episode_timeout: seconds after which a worker that runs one episode is replaced; None never.
    """
    if workers == 0:
        return LocalRollouts(env, policies)
    make_env = partial(build_env, task, env.device)
    return RolloutWorkers(make_env, policies, workers, episode_timeout=episode_timeout)
