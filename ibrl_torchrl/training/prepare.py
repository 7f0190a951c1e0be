"""What every learning run starts from: seeds, demonstrations and an imitation policy."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase

from ibrl_torchrl.data import (
    Demos,
    check_demos_match,
    load_demos,
    record_demos,
    save_demos,
    scripted_expert,
    simulator_difference,
)
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import ACTION, BC_ACTION
from ibrl_torchrl.modules import PixelPolicy, StateActor, shared_twin
from ibrl_torchrl.training.bc import BestWeights, clone_behaviour
from ibrl_torchrl.training.builders import as_policy, build_env, executing
from ibrl_torchrl.training.checkpoint import load_checkpoint, load_state, save_checkpoint
from ibrl_torchrl.training.config import (
    BCConfig,
    DemosConfig,
    EncoderConfig,
    TaskConfig,
)
from ibrl_torchrl.training.evaluate import RunningEvaluation
from ibrl_torchrl.training.networks import build_encoder, build_policy, observed_keys
from ibrl_torchrl.training.progress import bar, say
from ibrl_torchrl.training.rollouts import LocalRollouts
from ibrl_torchrl.training.scales import Scales, placeholder_scales

# An imitation policy of either kind.
BCNetwork = StateActor | PixelPolicy


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


def record_to(path: Path, config: DemosConfig, task: TaskConfig) -> None:
    """Record scripted demonstrations to a file, with a progress bar."""
    env = build_env(single_frames(task))
    expert = scripted_expert(task.suite, task.name, config.noise, seed=config.seed)
    episodes = record_demos(env, expert, config.episodes, seed=config.seed)
    save_demos(
        path, bar(episodes, desc="demos", total=config.episodes, unit="episode"), env.env_args
    )


def single_frames(task: TaskConfig) -> TaskConfig:
    """The task as files hold it: every observation once."""
    return replace(task, frame_stack=1, state_stack=1)


def demo_keys(*encoders: EncoderConfig | None) -> list[str]:
    """What demonstrations must hold for policies with these encoders."""
    return [*dict.fromkeys(key for encoder in encoders for key in observed_keys(encoder))]


def require_images_fit(env: EnvBase, *encoders: EncoderConfig | None) -> None:
    """Refuse images that an encoder cannot take; random states stay as they are.

    Raises:
        UsageError: a camera is not rendered, or the images do not suit a network.
    """
    with torch.random.fork_rng(devices=[]):
        for encoder in encoders:
            if encoder is not None:
                build_encoder(encoder, env.observation_spec)


def given_demos(
    config: DemosConfig, task: TaskConfig, env: EnvBase, keys: list[str]
) -> Demos | None:
    """The demonstrations of ``demos.path``, if there is one.

    Raises:
        UsageError: the file is damaged, does not fit the task, or holds too few episodes; or there
            is none and nobody to record one.
    """
    if config.path is None:
        scripted_expert(task.suite, task.name)  # refuses tasks without one before a run begins
        return None
    demos = load_demos(
        config.path,
        keys=keys,
        max_episodes=config.episodes,
        filter_key=config.filter_key,
        frame_stack=task.frame_stack,
        state_stack=task.state_stack,
    )
    if len(demos.episodes) < config.episodes:
        raise UsageError(
            f"{config.path}: holds {len(demos.episodes)} episodes, "
            f"demos.episodes={config.episodes}; ask for fewer"
        )
    check_demos_match(demos, env)
    if (difference := simulator_difference(demos, env)) is not None:
        say(f"warning: {difference}")
    return demos


def recorded_demos(config: DemosConfig, task: TaskConfig, keys: list[str], run_dir: Path) -> Demos:
    """Scripted demonstrations, recorded to ``demos.hdf5`` in the run folder and read back.

    An interrupted run has them already.
    """
    path = run_dir / "demos.hdf5"
    if not path.exists():
        record_to(path, config, task)
    return load_demos(path, keys=keys, frame_stack=task.frame_stack, state_stack=task.state_stack)


def given_bc(config: BCConfig, task: TaskConfig, env: EnvBase) -> BCNetwork | None:
    """The imitation policy of ``bc.path``, if there is one.

    Raises:
        UsageError: the checkpoint is damaged or of another task or shape.
    """
    return restore_bc(Path(config.path), config, task, env) if config.path else None


def trained_bc(
    config: BCConfig, demos: Demos, scales: Scales, env: EnvBase, device: torch.device
) -> BCNetwork:
    """An imitation policy cloned from demonstrations, with a progress bar.

    With ``bc.evaluate_every`` it is evaluated meanwhile and one of the best stages is returned.
    """
    keys = observed_keys(config.encoder)
    transitions = torch.cat([episode.select(*keys, ACTION) for episode in demos.episodes])
    network = build_policy(
        config.network,
        config.encoder,
        scales,
        env.observation_spec,
        transitions[ACTION].shape[-1],
    ).to(device)
    acting = executing(as_policy(shared_twin(network).eval(), config.encoder, BC_ACTION))
    best = BestWeights(config.keep_best)
    with bar(total=config.steps, desc="bc", unit="step") as shown:

        def show(step: int, loss: float) -> None:
            shown.update(step - shown.n)
            shown.set_postfix(loss=f"{loss:.2e}")
            if config.evaluate_every and (
                step % config.evaluate_every == 0 or step == config.steps
            ):
                best.consider(network, step, _success(acting, config, env, step))

        clone_behaviour(
            network,
            keys,
            transitions.to(device),
            steps=config.steps,
            batch_size=config.batch_size,
            lr=config.lr,
            grad_clip=config.grad_clip,
            on_step=show,
        )
    if config.evaluate_every:
        step, score = best.restore(network)
        say(f"bc step {step:>7}  chosen, success {score:.2f}")
    return network


def _success(policy: TensorDictModuleBase, config: BCConfig, env: EnvBase, step: int) -> float:
    rollouts = LocalRollouts(env, {"bc": policy})
    seeds = range(config.eval_seed, config.eval_seed + config.eval_episodes)
    rate = RunningEvaluation(rollouts, ["bc"], seeds).results()["bc"].success_rate
    say(f"bc step {step:>7}  success {rate:.2f} of {config.eval_episodes}")
    return rate


def save_bc(path: Path, network: BCNetwork, config: BCConfig, task: TaskConfig) -> None:
    """Write an imitation policy, its observation statistics included."""
    save_checkpoint(path, "bc", bc_meta(config, task), {"policy": network.state_dict()})


def restore_bc(path: Path, config: BCConfig, task: TaskConfig, env: EnvBase) -> BCNetwork:
    """Load an imitation policy in eval mode.

    Raises:
        UsageError: the checkpoint is damaged or of another task, kind of images or shape.
    """
    _, state = load_checkpoint(path, "bc", bc_meta(config, task))
    network = build_policy(
        config.network,
        config.encoder,
        placeholder_scales(task, env),
        env.observation_spec,
        env.action_spec.shape[-1],
    )
    load_state(network, state["policy"], path)
    return network.eval()


def bc_meta(config: BCConfig, task: TaskConfig) -> dict[str, str]:
    """What an imitation policy belongs to: its task, and what it sees of it."""
    meta = {"task": task.label}
    if config.encoder is not None:
        meta["images"] = (
            f"{task.frame_stack} x {task.image_size} px, quality {task.render_quality}, "
            f"of {', '.join(config.encoder.cameras)}"
        )
    elif task.state_parts is not None:
        meta["state_parts"] = ", ".join(task.state_parts)
    return meta
