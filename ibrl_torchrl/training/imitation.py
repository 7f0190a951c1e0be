"""Second stage of a run: imitation policies, loaded or trained on the demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.envs import EnvBase
from tqdm import tqdm

from ibrl_torchrl.builders.imitation import (
    execute,
    frozen_policies,
    load_policy,
    policy_module,
    policy_path,
    save_policy,
)
from ibrl_torchrl.builders.networks import PolicyNetwork, policy_keys
from ibrl_torchrl.builders.normalization import Normalizers
from ibrl_torchrl.builders.policies import build_imitation_policy, imitation_loss
from ibrl_torchrl.config.imitation import ImitationConfig
from ibrl_torchrl.config.task import TaskConfig
from ibrl_torchrl.config.train import FinalEvalConfig
from ibrl_torchrl.console import progress_bar
from ibrl_torchrl.episodes import action_chunks, imitation_episode, window_steps
from ibrl_torchrl.evaluation.evaluate import Evaluation, EvaluationJob
from ibrl_torchrl.imitation.train import train_imitation
from ibrl_torchrl.imitation.validation import ValidationLoss, hold_out
from ibrl_torchrl.imitation.weights import weights_of
from ibrl_torchrl.keys import ACTION
from ibrl_torchrl.modules import tied_copy
from ibrl_torchrl.rollouts.episode import LocalRollouts
from ibrl_torchrl.training.selection import (
    BestSuccess,
    LastWeights,
    LowestValidationLoss,
    WeightSelection,
)

PolicyNetworks = dict[str, PolicyNetwork]
REPORT_EVERY = 100  # steps


def load_configured_policies(
    configs: Mapping[str, ImitationConfig], task: TaskConfig, env: EnvBase
) -> PolicyNetworks:
    """Imitation policies whose ``path`` is set, by name.

    Raises:
        UsageError: a checkpoint is damaged or of another task or shape.
    """
    return {
        name: load_policy(Path(config.path), config, task, env)
        for name, config in configs.items()
        if config.path is not None
    }


def imitation(
    configs: Mapping[str, ImitationConfig],
    loaded: PolicyNetworks,
    task: TaskConfig,
    episodes: Sequence[TensorDict],
    normalizers: Normalizers,
    env: EnvBase,
    device: torch.device,
    run_dir: Path,
) -> PolicyNetworks:
    """Imitation policies by name, saved to the run folder.

    Args:
        configs: settings by name.
        loaded: trained policies by name; the others are trained here.
        task: task of the policies.
        episodes: demonstrations.
        normalizers: normalisation of observations by key.
        env: environment of the shapes and of the evaluations that select weights.
        device: device of the training.
        run_dir: folder whose ``imitation/NAME.pt`` are written.
    """
    networks: PolicyNetworks = {}
    for name, config in configs.items():
        if name in loaded:
            networks[name] = loaded[name]
        else:
            networks[name] = _trained(name, config, episodes, normalizers, env, device)
        save_policy(policy_path(run_dir, name), networks[name], config, task)
    return networks


def evaluate_policies(
    networks: PolicyNetworks,
    configs: Mapping[str, ImitationConfig],
    env: EnvBase,
    config: FinalEvalConfig,
) -> dict[str, Evaluation]:
    """Evaluate imitation policies from the same initial states, by name.

    Args:
        networks: trained policies by name.
        configs: their settings by name.
        env: environment of the task.
        config: number and seed of the episodes.
    """
    names = [*networks]
    policies = {
        name: execute(policy, name, names.index(name), configs[name].chunk)
        for name, policy in frozen_policies(networks, configs).items()
    }
    seeds = range(config.seed, config.seed + config.final_episodes)
    return EvaluationJob(LocalRollouts(env, policies), names, seeds, names).results()


def _trained(
    name: str,
    config: ImitationConfig,
    episodes: Sequence[TensorDict],
    normalizers: Normalizers,
    env: EnvBase,
    device: torch.device,
) -> PolicyNetwork:
    """Train one policy, with a progress bar, and select among its weights."""
    training, held_out = hold_out(episodes, config.validation_fraction)
    transitions = imitation_transitions(training, config).to(device)
    network = build_imitation_policy(
        config, normalizers, env.observation_spec, transitions[ACTION].shape[-1]
    ).to(device)
    loss = imitation_loss(network, config)
    weights = weights_of(network, config.ema)
    with progress_bar(total=config.steps, desc=name, unit="step") as bar:
        progress = _Progress(bar)
        selection = _selection(name, config, network, loss, held_out, env, progress)

        def on_step(step: int, loss: Tensor) -> bool:
            weights.update()
            is_last = step == config.steps
            if step % REPORT_EVERY == 0 or is_last:
                progress(step, loss=loss.item())
            if step % selection.every == 0 or is_last:
                with weights.applied():
                    return selection.evaluate(step)
            return False

        train_imitation(
            network,
            loss,
            transitions,
            steps=config.steps,
            batch_size=config.batch_size,
            lr=config.lr,
            lr_name=f"imitation.{name}.lr",
            grad_clip=config.grad_clip,
            on_step=on_step,
        )
    weights.load()
    selection.load()
    return network


def _selection(
    name: str,
    config: ImitationConfig,
    network: PolicyNetwork,
    loss: TensorDictModuleBase,
    held_out: Sequence[TensorDict],
    env: EnvBase,
    progress: _Progress,
) -> WeightSelection:
    """Selection by validation loss, by success, or of the last weights."""
    if held_out:
        transitions = imitation_transitions(held_out, config).to(next(network.parameters()).device)
        validation = ValidationLoss(network, loss, transitions, config.batch_size)
        return LowestValidationLoss(
            name, network, validation, config, lambda step, loss: progress(step, validation=loss)
        )
    if config.eval_every is not None:
        module = policy_module(tied_copy(network).eval(), config.encoder, name)
        policy = execute(module, name, 0, config.chunk)
        return BestSuccess(name, network, policy, config, env, config.eval_every)
    return LastWeights(config.steps)


def imitation_transitions(episodes: Sequence[TensorDict], config: ImitationConfig) -> TensorDict:
    """What a policy is trained on: observations and actions from each step of the episodes on.

    Returns:
        TensorDict [N] of observations and chunks of actions, one a step; of recurrent policies
        [N, horizon], windows that repeat an episode's last step past its end.
    """
    keys = policy_keys(config.encoder)
    rows = [
        episode.select(*keys).set(ACTION, action_chunks(episode[ACTION], config.chunk.size))
        for episode in map(imitation_episode, episodes)
    ]
    if config.recurrent:
        rows = [row[window_steps(len(row), config.gmm_rnn.horizon)] for row in rows]
    return cast(TensorDict, torch.cat(rows))


class _Progress:
    """Progress bar with the latest value of each loss."""

    def __init__(self, bar: tqdm[Any]) -> None:
        self._bar = bar
        self._losses: dict[str, str] = {}

    def __call__(self, step: int, **losses: float) -> None:
        self._losses |= {name: f"{loss:.2e}" for name, loss in losses.items()}
        self._bar.update(step - self._bar.n)
        self._bar.set_postfix(self._losses)
