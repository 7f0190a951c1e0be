"""A run's agent and environment, rebuilt from its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torchrl.envs import EnvBase

from ibrl_torchrl.builders.agent import Agent, bc_policy, build_agent
from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.imitation import restore_bc
from ibrl_torchrl.builders.normalization import placeholder_scales
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.runs.checkpoint import KIND, load_checkpoint, load_state
from ibrl_torchrl.runs.folder import CHECKPOINT, read_config
from ibrl_torchrl.runtime import setup_process


@dataclass(frozen=True)
class LoadedRun:
    """What a run had learned.

    Attributes:
        config: of the run.
        env: a new environment of its task.
        agent: with the networks of its last checkpoint.
        frames: when that was written.
    """

    config: TrainConfig
    env: EnvBase
    agent: Agent
    frames: int


def load_run(
    run_dir: Path, name: str = CHECKPOINT, *, seed: int, threads: int | None, device: str
) -> LoadedRun:
    """Rebuild a run from its folder.

    Args:
        run_dir: the folder.
        name: of the checkpoint, such as ``"best.pt"``. Default the last one.
        seed: of the process.
        threads: of PyTorch; None: all cores.
        device: where the networks go.

    Raises:
        UsageError: the folder is not a run's, its checkpoint does not fit its configuration, or
            there is no such device.
    """
    config = parse(TrainConfig, read_config(run_dir))
    place = setup_process(seed, threads, device)
    env = build_env(config.task, place)
    checkpoint = run_dir / name
    meta, state = load_checkpoint(checkpoint, KIND, {"task": config.task.label})
    agent = build_agent(
        config.algo,
        bc_policy(restore_bc(run_dir / "bc.pt", config.bc, config.task, env), config.bc.encoder),
        placeholder_scales(config.task, env),
        env,
        place,
        recorded_proposals=config.replay.record_proposals,
    )
    load_state(agent.loss, state["loss"], checkpoint)
    return LoadedRun(config, env, agent, meta["frames"])
