"""What every learning run starts from: seeds, demonstrations and an imitation policy."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from tensordict import TensorDict
from torchrl.envs import EnvBase

from ibrl_torchrl.data import (
    Demos,
    check_demos_match,
    load_demos,
    record_demos,
    save_demos,
    scripted_expert,
)
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import ACTION, STATE
from ibrl_torchrl.modules import Standardize, StateActor
from ibrl_torchrl.training.bc import clone_behaviour
from ibrl_torchrl.training.builders import OBSERVATION_KEYS, build_policy_network, demo_states
from ibrl_torchrl.training.checkpoint import load_checkpoint, load_state, save_checkpoint
from ibrl_torchrl.training.config import BCConfig, DemosConfig, TaskConfig
from ibrl_torchrl.training.progress import bar


def prepare_process(seed: int, threads: int | None, device: str) -> torch.device:
    """Fix the random states and the number of threads; find the device.

    Raises:
        UsageError: there is no such device.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device={device}: not available here; use device=cpu") from error


def record_to(path: Path, config: DemosConfig, task: TaskConfig, env: EnvBase) -> None:
    """Record scripted demonstrations to a file, with a progress bar."""
    expert = scripted_expert(task.suite, task.name, config.noise, seed=config.seed)
    episodes = record_demos(env, expert, config.episodes, seed=config.seed)
    save_demos(
        path, bar(episodes, desc="demos", total=config.episodes, unit="episode"), env.env_args
    )


def given_demos(config: DemosConfig, env: EnvBase) -> Demos | None:
    """The demonstrations of ``demos.path``, if there is one.

    Raises:
        UsageError: the file is damaged, does not fit the task, or holds too few episodes.
    """
    if config.path is None:
        return None
    demos = load_demos(config.path, keys=OBSERVATION_KEYS, max_episodes=config.episodes)
    if len(demos.episodes) < config.episodes:
        raise UsageError(
            f"{config.path}: holds {len(demos.episodes)} episodes, "
            f"demos.episodes={config.episodes}; ask for fewer"
        )
    check_demos_match(demos, env)
    return demos


def recorded_demos(config: DemosConfig, task: TaskConfig, env: EnvBase, run_dir: Path) -> Demos:
    """Scripted demonstrations, recorded to ``demos.hdf5`` in the run folder and read back."""
    path = run_dir / "demos.hdf5"
    record_to(path, config, task, env)
    return load_demos(path, keys=OBSERVATION_KEYS)


def given_bc(config: BCConfig, task: TaskConfig, env: EnvBase) -> StateActor | None:
    """The imitation policy of ``bc.path``, if there is one.

    Raises:
        UsageError: the checkpoint is damaged or of another task or shape.
    """
    return restore_bc(Path(config.path), config, task, env) if config.path else None


def trained_bc(config: BCConfig, demos: Demos, device: torch.device) -> StateActor:
    """An imitation policy cloned from demonstrations, with a progress bar."""
    states = demo_states(demos.episodes)
    actions = torch.cat([episode[ACTION] for episode in demos.episodes])
    network = build_policy_network(
        config.network, Standardize.from_data(states), actions.shape[-1]
    ).to(device)
    transitions = TensorDict({STATE: states, ACTION: actions}, batch_size=[len(states)])
    with bar(total=config.steps, desc="bc", unit="step") as shown:

        def show(step: int, loss: float) -> None:
            shown.update(step - shown.n)
            shown.set_postfix(loss=f"{loss:.2e}")

        clone_behaviour(
            network,
            OBSERVATION_KEYS,
            transitions.to(device),
            steps=config.steps,
            batch_size=config.batch_size,
            lr=config.lr,
            on_step=show,
        )
    return network


def save_bc(path: Path, network: StateActor, task: TaskConfig) -> None:
    """Write an imitation policy, its observation statistics included."""
    meta = {"task": f"{task.suite}/{task.name}"}
    save_checkpoint(path, "bc", meta, {"policy": network.state_dict()})


def restore_bc(path: Path, config: BCConfig, task: TaskConfig, env: EnvBase) -> StateActor:
    """Load an imitation policy in eval mode.

    Raises:
        UsageError: the checkpoint is damaged or of another task or shape.
    """
    _, state = load_checkpoint(path, "bc", {"task": f"{task.suite}/{task.name}"})
    # The statistics are placeholders until the checkpoint brings its own.
    placeholder = Standardize.identity(env.observation_spec[STATE].shape[-1])
    network = build_policy_network(config.network, placeholder, env.action_spec.shape[-1])
    load_state(network, state["policy"], path)
    return network.eval()
