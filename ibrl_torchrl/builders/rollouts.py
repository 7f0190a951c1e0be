"""Rollout backend from settings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.config.ray import RayConfig
from ibrl_torchrl.config.task import TaskConfig
from ibrl_torchrl.rollouts.episode import LocalRollouts, Rollouts
from ibrl_torchrl.rollouts.processes import RolloutWorkers
from ibrl_torchrl.rollouts.ray import RayRollouts


def build_rollouts(
    workers: int,
    task: TaskConfig,
    env: EnvBase,
    policies: Mapping[str, TensorDictModuleBase],
    *,
    episode_timeout: float | None,
    ray: RayConfig | None = None,
) -> Rollouts:
    """Rollouts in this process, in worker processes, or on a Ray cluster.

    Args:
        workers: number of processes or actors; 0: this process.
        task: task of the workers' environments.
        env: environment of this process, used without workers; those of processes are on its
            device.
        policies: policies by name.
        episode_timeout: seconds after which a worker that runs one episode is replaced; None never.
        ray: cluster and size of its actors, which are on a GPU if they have one; None (default):
            processes.

    Raises:
        UsageError: there is no such cluster.
    """
    if workers == 0:
        return LocalRollouts(env, policies)
    if ray is not None:
        device = "cuda" if ray.gpus else "cpu"
        return RayRollouts(
            partial(build_env, task, torch.device(device)),
            policies,
            workers,
            address=ray.address,
            cpus=ray.cpus,
            gpus=ray.gpus,
            device=device,
            episode_timeout=episode_timeout,
        )
    make_env = partial(build_env, task, env.device)
    return RolloutWorkers(make_env, policies, workers, episode_timeout=episode_timeout)
