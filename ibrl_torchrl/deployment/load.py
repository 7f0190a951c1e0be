"""Policy of a run folder, without its simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tensordict.nn import TensorDictModuleBase

from ibrl_torchrl.builders.env import build_env, observation_stacks
from ibrl_torchrl.builders.imitation import execute, frozen_policies, load_policies
from ibrl_torchrl.config.commands import BCRunConfig, DaggerRunConfig
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.task import TaskConfig
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.deployment.policy import Bounds, RunPolicy
from ibrl_torchrl.envs.spaces import Spaces
from ibrl_torchrl.errors import UsageError, unknown_name
from ibrl_torchrl.evaluation.load import load_agent
from ibrl_torchrl.keys import HYBRID
from ibrl_torchrl.runs.folder import read_config
from ibrl_torchrl.runs.names import CHECKPOINT, SPACES
from ibrl_torchrl.runs.spaces import read_spaces
from ibrl_torchrl.runtime import require_device


@dataclass(frozen=True)
class RunPolicies:
    """Policies of a run folder.

    Attributes:
        task: task of the run.
        spaces: spaces of its environment.
        modules: evaluated policies in eval mode by name: ``"hybrid"``, ``"rl"`` and each imitation
            policy; of ``ibrl bc`` and ``ibrl dagger`` the imitation policies alone.
        proposals: names in the order of the index ``proposal``.
    """

    task: TaskConfig
    spaces: Spaces
    modules: Mapping[str, TensorDictModuleBase]
    proposals: tuple[str, ...]

    @property
    def default(self) -> str:
        """Name of the hybrid, or of the first imitation policy of ``ibrl bc``."""
        return HYBRID if HYBRID in self.modules else next(iter(self.modules))

    def named(self, name: str) -> TensorDictModuleBase:
        """Policy of a name.

        Raises:
            UsageError: there is no such policy.
        """
        if name not in self.modules:
            raise unknown_name("policy", name, self.modules)
        return self.modules[name]


def load_policy(
    run: str | Path,
    policy: str | None = None,
    *,
    checkpoint: str = CHECKPOINT,
    action_bounds: Bounds | None = None,
    device: str = "cpu",
) -> RunPolicy:
    """Load the policy of a run of ``ibrl train``, ``bc`` or ``dagger``, to act without simulator.

    Runs of versions that stored no ``spaces.json`` build the simulator once, for its shapes.

    Args:
        run: run folder.
        policy: name of the policy: ``"hybrid"``, ``"rl"``, or an imitation policy such as ``"bc"``;
            None (default): the hybrid, or the first imitation policy of ``ibrl bc``.
        checkpoint: file of the folder, such as ``"best.pt"``; default the last checkpoint.
        action_bounds: bounds (low, high) of the actions to return, numbers or arrays [A], to which
            the run's, usually [-1, 1], are mapped linearly; None (default): the environment's.
        device: device of the networks.

    Returns:
        Policy with ``reset()`` and ``act(observation)``.

    Raises:
        UsageError: the folder is not a run's, a file in it is damaged, there is no such policy, or
            the simulator is needed and not installed.
        ValueError: ``action_bounds`` are not numbers or arrays [A], finite, low < high.

    Example::

        policy = load_policy("runs/box-close/ibrl-seed1")
        policy.reset()
        action = policy.act({"state": np.zeros(39, np.float32)})
        print(policy.decision)  # bc of rl 0.310, bc 0.420
    """
    loaded = load_run_policies(Path(run), checkpoint, device=device)
    return RunPolicy(
        loaded.named(policy or loaded.default),
        loaded.proposals,
        loaded.spaces,
        observation_stacks(loaded.task),
        action_bounds=action_bounds,
        device=device,
    )


def load_run_policies(
    run_dir: Path, checkpoint: str = CHECKPOINT, *, device: str = "cpu"
) -> RunPolicies:
    """Load the policies of a run of ``ibrl train`` or ``ibrl bc``.

    The global random state of PyTorch is left unchanged.

    Args:
        run_dir: run folder.
        checkpoint: file of a folder of ``ibrl train``; default the last checkpoint.
        device: device of the networks.

    Raises:
        UsageError: see :func:`load_policy`.
    """
    content, torch_device = read_config(run_dir), require_device(device)
    with torch.random.fork_rng(devices=[]):  # networks draw initial weights
        if "algo" in content:
            return _trained(parse(TrainConfig, content), run_dir, checkpoint, torch_device)
        return _cloned(content, run_dir, torch_device)


def _trained(
    config: TrainConfig, run_dir: Path, checkpoint: str, device: torch.device
) -> RunPolicies:
    spaces = _spaces(run_dir, config.task)
    agent, _ = load_agent(run_dir, config, spaces, device, checkpoint)
    return RunPolicies(config.task, spaces, agent.policies, agent.proposals)


def _cloned(content: dict[str, Any], run_dir: Path, device: torch.device) -> RunPolicies:
    schema = DaggerRunConfig if "dagger" in content else BCRunConfig
    config = parse(schema, content)
    spaces = _spaces(run_dir, config.task)
    networks = load_policies(run_dir, config.imitation, config.task, spaces)
    names = tuple(networks)
    modules = {
        name: execute(policy.to(device), name, names.index(name), config.imitation[name].chunk)
        for name, policy in frozen_policies(networks, config.imitation).items()
    }
    return RunPolicies(config.task, spaces, modules, names)


def _spaces(run_dir: Path, task: TaskConfig) -> Spaces:
    """Spaces of a run, from its folder or, for earlier versions, from its simulator.

    Raises:
        UsageError: the file is damaged, or the simulator cannot be built.
    """
    if (spaces := read_spaces(run_dir)) is not None:
        return spaces
    echo(f"{run_dir}: has no {SPACES} (an earlier version); building {task.label} for its shapes")
    try:
        env = build_env(task)
    except UsageError as error:
        raise UsageError(
            f"{run_dir}: has no {SPACES}, so it needs its simulator: {error}"
        ) from error
    try:
        return Spaces.of(env)
    finally:
        env.close()
