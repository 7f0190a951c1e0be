"""Second stage of a run: imitation policies, loaded or trained on the demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase

from ibrl_torchrl.builders.imitation import (
    execute,
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
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.episodes import action_chunks
from ibrl_torchrl.evaluation.evaluate import EvaluationJob
from ibrl_torchrl.imitation.train import TopKWeights, train_imitation
from ibrl_torchrl.keys import ACTION
from ibrl_torchrl.modules import tied_copy
from ibrl_torchrl.rollouts.episode import LocalRollouts

PolicyNetworks = dict[str, PolicyNetwork]


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


def _trained(
    name: str,
    config: ImitationConfig,
    episodes: Sequence[TensorDict],
    normalizers: Normalizers,
    env: EnvBase,
    device: torch.device,
) -> PolicyNetwork:
    """Train one policy, with a progress bar; with ``eval_every`` select among its weights."""
    keys = policy_keys(config.encoder)
    chunk = config.chunk
    transitions = cast(
        TensorDict,
        torch.cat(
            [
                episode.select(*keys).set(ACTION, action_chunks(episode[ACTION], chunk.size))
                for episode in episodes
            ]
        ),
    )
    network = build_imitation_policy(
        config, normalizers, env.observation_spec, transitions[ACTION].shape[-1]
    ).to(device)
    module = policy_module(tied_copy(network).eval(), config.encoder, name)
    evaluated = execute(module, name, 0, chunk)
    best = TopKWeights(config.top_k)
    with progress_bar(total=config.steps, desc=name, unit="step") as bar:

        def on_step(step: int, loss: float) -> None:
            bar.update(step - bar.n)
            bar.set_postfix(loss=f"{loss:.2e}")
            if config.eval_every and (step % config.eval_every == 0 or step == config.steps):
                best.update(network, step, _success_rate(name, evaluated, config, env, step))

        train_imitation(
            network,
            imitation_loss(network, config),
            transitions.to(device),
            steps=config.steps,
            batch_size=config.batch_size,
            lr=config.lr,
            grad_clip=config.grad_clip,
            on_step=on_step,
        )
    if config.eval_every:
        step, score = best.load_random(network)
        echo(f"{name} step {step:>7}  selected, success {score:.2f}")
    return network


def _success_rate(
    name: str, policy: TensorDictModuleBase, config: ImitationConfig, env: EnvBase, step: int
) -> float:
    seeds = range(config.eval_seed, config.eval_seed + config.eval_episodes)
    job = EvaluationJob(LocalRollouts(env, {name: policy}), [name], seeds, [name])
    rate = job.results()[name].success_rate
    echo(f"{name} step {step:>7}  success {rate:.2f} of {config.eval_episodes}")
    return rate
