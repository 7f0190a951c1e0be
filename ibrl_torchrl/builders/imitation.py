"""Imitation policies: networks from settings, TensorDict modules, checkpoint files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torch import nn
from torchrl.envs import EnvBase

from ibrl_torchrl.builders.chunks import execute_chunks
from ibrl_torchrl.builders.networks import PolicyNetwork, policy_keys
from ibrl_torchrl.builders.normalization import identity_normalizers
from ibrl_torchrl.builders.policies import build_imitation_policy, shape_meta
from ibrl_torchrl.config.chunk import ChunkConfig
from ibrl_torchrl.config.imitation import MLP, ImitationConfig
from ibrl_torchrl.config.networks import EncoderConfig
from ibrl_torchrl.config.task import TaskConfig
from ibrl_torchrl.envs.spaces import Spaces
from ibrl_torchrl.errors import UsageError, brief
from ibrl_torchrl.keys import proposal_key
from ibrl_torchrl.modules import (
    ExecuteProposal,
    FastTensorDictModule,
    FrozenPolicy,
    RecurrentMixturePolicy,
    RecurrentPolicy,
)
from ibrl_torchrl.runs.checkpoint import load_checkpoint, load_state, save_checkpoint
from ibrl_torchrl.runs.contents import entry
from ibrl_torchrl.runs.names import IMITATION

KIND = "imitation"
# What a file holds that names neither.
_UNSTORED: dict[str, Any] = {"policy": MLP, "chunk.size": 1}
# Settings of the task's state, and their value where a file does not name them.
_NO_PARTS = {"state_parts": "null", "relative_positions": "[]"}


def policy_path(run_dir: Path, name: str) -> Path:
    """File of an imitation policy in a run folder."""
    return run_dir / IMITATION / f"{name}.pt"


def policy_module(
    network: nn.Module, encoder: EncoderConfig | None, name: str
) -> TensorDictModuleBase:
    """TensorDict module of a policy network, which writes the action of proposal ``name`` first."""
    keys, action_key = policy_keys(encoder), proposal_key(name)
    if isinstance(network, RecurrentMixturePolicy):
        return RecurrentPolicy(network, keys, action_key)
    return FastTensorDictModule(network, in_keys=keys, out_keys=[action_key])


def frozen_policies(
    networks: Mapping[str, PolicyNetwork], configs: Mapping[str, ImitationConfig]
) -> dict[str, FrozenPolicy]:
    """Frozen policies of trained networks, by name."""
    return {
        name: FrozenPolicy(
            policy_module(network, configs[name].encoder, name), action_key=proposal_key(name)
        )
        for name, network in networks.items()
    }


def execute(
    policy: TensorDictModuleBase, name: str, index: int, chunk: ChunkConfig
) -> TensorDictModuleBase:
    """Policy that executes its proposal.

    Args:
        policy: policy that writes the action of proposal ``name``.
        name: name of the proposal.
        index: index of the proposal, written as ``proposal``.
        chunk: action chunk that it proposes.
    """
    proposal = TensorDictSequential(policy, ExecuteProposal(proposal_key(name), index))
    return execute_chunks(proposal, chunk)


def save_policy(
    path: Path, network: PolicyNetwork, config: ImitationConfig, task: TaskConfig
) -> None:
    """Save an imitation policy, normalisation included.

    Raises:
        UsageError: the file cannot be written.
    """
    path.parent.mkdir(exist_ok=True)
    meta = {**_origin_meta(config, task), **_input_meta(config, task), **shape_meta(config)}
    save_checkpoint(path, KIND, meta, {"policy": network.state_dict()})


def load_policy(
    path: Path, config: ImitationConfig, task: TaskConfig, env: EnvBase | Spaces
) -> PolicyNetwork:
    """Load an imitation policy, in eval mode.

    Raises:
        UsageError: the checkpoint is damaged or of another task, observation, kind of policy or
            network.
    """
    meta, state = load_checkpoint(path, KIND, _origin_meta(config, task))
    _require_same_inputs(path, meta, _input_meta(config, task))
    _require_same_shape(path, meta, config)
    network = build_imitation_policy(
        config,
        identity_normalizers(task, env),
        env.observation_spec,
        env.action_spec.shape[-1] * config.chunk.size,
    )
    load_state(network, entry(state, "policy", dict, path), path)
    return network.eval()


def load_policies(
    run_dir: Path,
    configs: Mapping[str, ImitationConfig],
    task: TaskConfig,
    env: EnvBase | Spaces,
) -> dict[str, PolicyNetwork]:
    """Load the imitation policies of a run folder, by name.

    Raises:
        UsageError: a checkpoint is missing, damaged or of another task, observation or network.
    """
    return {
        name: load_policy(policy_path(run_dir, name), config, task, env)
        for name, config in configs.items()
    }


def _origin_meta(config: ImitationConfig, task: TaskConfig) -> dict[str, str]:
    """Task and images that an imitation policy belongs to."""
    meta = {"task": task.label}
    if config.encoder is not None:
        meta["images"] = (
            f"{task.frame_stack} x {task.image_size} px, quality {task.render_quality}, "
            f"of {', '.join(config.encoder.cameras)}"
        )
    return meta


def _input_meta(config: ImitationConfig, task: TaskConfig) -> dict[str, str]:
    """Parts of the state that an imitation policy reads; a file names neither default."""
    if config.encoder is not None:
        return {}
    parts = {name: getattr(task, name) for name in _NO_PARTS}
    return {name: ", ".join(value) for name, value in parts.items() if value}


def _require_same_inputs(path: Path, meta: dict[str, Any], expected: dict[str, str]) -> None:
    """Refuse weights of other inputs, by the setting's name."""
    for name, none in _NO_PARTS.items():
        stored, value = (
            f"[{parts[name]}]" if name in parts else none for parts in (meta, expected)
        )
        _require_same(path, f"task.{name}", stored, value)


def _require_same_shape(path: Path, meta: dict[str, Any], config: ImitationConfig) -> None:
    """Refuse weights of another kind of policy or network, by the setting's name."""
    for name, value in {**_UNSTORED, **shape_meta(config)}.items():
        stored = meta.get(name, _UNSTORED.get(name))
        _require_same(path, f"imitation.NAME.{name}", stored, value)


def _require_same(path: Path, setting: str, stored: object, value: object) -> None:
    """Refuse weights that were trained with another value of a setting.

    Raises:
        UsageError: names the setting, both values and the remedies.
    """
    if stored != value:
        raise UsageError(
            f"{path}: was trained with {setting}={brief(stored)}, not {brief(value)}; "
            "set it so, or use another file"
        )
