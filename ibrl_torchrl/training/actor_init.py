"""Imitation by the initialised RL actor before RL begins."""

from __future__ import annotations

import torch
from torchrl.objectives import HardUpdate

from ibrl_torchrl.builders.agent import Agent
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.data.replay import Replay, ReplayWithDemos
from ibrl_torchrl.objectives import BCRegularizedTD3Loss


def pretrain_actor(config: TrainConfig, agent: Agent, replay: Replay, device: torch.device) -> None:
    """Minimise the behaviour cloning term alone for ``algo.actor_init_steps`` updates, if any.

    An imitation policy trained without dropout imitates badly with it. The actor starts with its
    weights and is trained with dropout, so that the behaviour cloning term would first have to
    repair what the policy knew, while RL moves the actor, too.

    Args:
        config: settings of the run.
        agent: agent whose actor has the weights of an imitation policy; its target follows.
        replay: replay buffer with the demonstrations of the behaviour cloning term.
        device: device of the batches.
    """
    steps, name, loss = config.algo.actor_init_steps, config.algo.actor_init, agent.loss
    if steps == 0 or name is None or not isinstance(loss, BCRegularizedTD3Loss):
        return
    assert isinstance(replay, ReplayWithDemos)
    parameters = agent.terms["loss_actor"].parameters
    optimizer = torch.optim.Adam(parameters, lr=config.imitation[name].lr, fused=True)
    for _ in progress_bar(range(steps), desc="actor", unit="step"):
        error = loss.bc_loss(replay.demos.sample(replay.batch_size).to(device))
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    HardUpdate(loss, value_network_update_interval=1).step()  # critics still equal their targets
    echo(f"actor: squared imitation error {error.item():.3f} with dropout after {steps} updates")
