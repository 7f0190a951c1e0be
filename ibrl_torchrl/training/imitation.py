"""The imitation stage."""

from __future__ import annotations

import torch
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase

from ibrl_torchrl.builders.agent import as_policy, executing
from ibrl_torchrl.builders.imitation import BCNetwork
from ibrl_torchrl.builders.networks import build_policy, observed_keys
from ibrl_torchrl.builders.normalization import Scales
from ibrl_torchrl.config.imitation import BCConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.data.demos import (
    Demos,
)
from ibrl_torchrl.evaluation.evaluate import EvaluationJob
from ibrl_torchrl.imitation.train import TopKWeights, train_imitation
from ibrl_torchrl.keys import ACTION, BC_ACTION
from ibrl_torchrl.modules import tied_copy
from ibrl_torchrl.rollouts.episode import LocalRollouts


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
    acting = executing(as_policy(tied_copy(network).eval(), config.encoder, BC_ACTION))
    best = TopKWeights(config.keep_best)
    with progress_bar(total=config.steps, desc="bc", unit="step") as shown:

        def show(step: int, loss: float) -> None:
            shown.update(step - shown.n)
            shown.set_postfix(loss=f"{loss:.2e}")
            if config.evaluate_every and (
                step % config.evaluate_every == 0 or step == config.steps
            ):
                best.consider(network, step, _success(acting, config, env, step))

        train_imitation(
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
        echo(f"bc step {step:>7}  chosen, success {score:.2f}")
    return network


def _success(policy: TensorDictModuleBase, config: BCConfig, env: EnvBase, step: int) -> float:
    rollouts = LocalRollouts(env, {"bc": policy})
    seeds = range(config.eval_seed, config.eval_seed + config.eval_episodes)
    rate = EvaluationJob(rollouts, ["bc"], seeds).results()["bc"].success_rate
    echo(f"bc step {step:>7}  success {rate:.2f} of {config.eval_episodes}")
    return rate
