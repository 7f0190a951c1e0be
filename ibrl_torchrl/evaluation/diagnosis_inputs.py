"""Inputs of a diagnosis that follow from a run's settings."""

from __future__ import annotations

from pathlib import Path

from tensordict.nn import TensorDictModuleBase

from ibrl_torchrl.config.task import DemosConfig
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.data.demos.describe import describe_demos
from ibrl_torchrl.data.demos.trajectories import read_trajectories
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.evaluation.diagnosis import Demonstrations
from ibrl_torchrl.experts import is_memoryless, scripted_expert
from ibrl_torchrl.runs.names import DEMOS


def run_demonstrations(run_dir: Path, config: DemosConfig) -> Demonstrations:
    """Demonstrations that a run was trained on.

    Args:
        run_dir: run folder, which holds scripted demonstrations as ``demos.hdf5``.
        config: the run's settings of demonstrations.

    Raises:
        UsageError: the file is missing or damaged, or lacks simulator states.
    """
    path = Path(config.path or run_dir / DEMOS)
    trajectories = read_trajectories(
        path, filter_key=config.filter_key, max_episodes=config.episodes
    )
    return Demonstrations([*trajectories], describe_demos(path, config.filter_key).env_args)


def memoryless_expert(suite: str, task: str) -> TensorDictModuleBase | None:
    """Scripted expert whose action depends on the current state alone; None if there is none.

    Experts that follow a plan, such as robosuite's, cannot start in the middle of an episode.
    """
    try:
        expert = scripted_expert(suite, task)
    except UsageError:
        return None
    return expert if is_memoryless(expert) else None


def return_discount(config: TrainConfig) -> float | None:
    """Discount factor of returns that the critics' values can be compared with.

    None if the critics learn rewards other than the task's (SQIL).
    """
    replay = config.replay
    if replay.offline_reward is not None or replay.online_reward is not None:
        return None
    return config.algo.loss.gamma
