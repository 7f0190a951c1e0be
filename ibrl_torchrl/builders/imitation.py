"""Imitation policies from and to checkpoints."""

from __future__ import annotations

from pathlib import Path

from torchrl.envs import EnvBase

from ibrl_torchrl.builders.networks import build_policy
from ibrl_torchrl.builders.normalization import placeholder_scales
from ibrl_torchrl.config.imitation import BCConfig
from ibrl_torchrl.config.task import TaskConfig
from ibrl_torchrl.modules import PixelPolicy, StateActor
from ibrl_torchrl.runs.checkpoint import load_checkpoint, load_state, save_checkpoint

# An imitation policy of either kind.
BCNetwork = StateActor | PixelPolicy


def given_bc(config: BCConfig, task: TaskConfig, env: EnvBase) -> BCNetwork | None:
    """The imitation policy of ``bc.path``, if there is one.

    Raises:
        UsageError: the checkpoint is damaged or of another task or shape.
    """
    return restore_bc(Path(config.path), config, task, env) if config.path else None


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
