"""Imitation by the initialised actor before RL."""

import pytest
import torch
from support.known_networks import constant_policy
from support.parts import episode
from torchrl.data import Bounded, Composite, Unbounded

from ibrl_torchrl.builders.agent import build_agent
from ibrl_torchrl.builders.replay import build_replay
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.modules import Normalize
from ibrl_torchrl.training.actor_init import pretrain_actor

CPU = torch.device("cpu")
SMALL = ["algo.actor.hidden=[1]", "algo.critic.hidden=[1]", "imitation.bc.network.hidden=[1]"]


class Specs:
    """Specs of an environment, without its dynamics."""

    action_spec = Bounded(-1.0, 1.0, shape=(4,))
    observation_spec = Composite(state=Unbounded(2))


def settings(*overrides):
    return parse(TrainConfig, composed("train", [*SMALL, "replay.batch_size=8", *overrides]))


def agent_and_replay(config, tmp_path):
    """Agent whose actor acts 0.5 as the imitation policy does, and a demonstration of 0."""
    torch.manual_seed(0)
    policies = {"bc": constant_policy("bc", 0.5, 4, 0.0)}
    agent = build_agent(config.algo, policies, {"state": Normalize.identity(2)}, Specs(), CPU)
    demo = episode(3, success=True)
    demo["action"] = torch.zeros(3, 4)
    demo["state"] = demo["next", "state"] = torch.zeros(3, 2)
    return agent, build_replay(config.replay, agent.loss.in_keys, 0.99, [demo], tmp_path)


def test_actor_and_target_imitate_the_demonstrations_and_nothing_else_moves(tmp_path):
    config = settings("algo.actor_init_steps=300", "imitation.bc.lr=1e-2")
    agent, replay = agent_and_replay(config, tmp_path)
    loss, demos = agent.loss, replay.demos.sample(8)
    critics = loss.qvalue_network_params.clone()
    assert loss.bc_loss(demos).item() == pytest.approx(4 * 0.25)
    pretrain_actor(config, agent, replay, CPU)
    assert loss.bc_loss(demos).item() < 0.01
    pairs = (loss.actor_network_params, loss.target_actor_network_params)
    assert (pairs[0].data == pairs[1].data).all()
    assert (loss.qvalue_network_params == critics).all()
    assert all(parameter.grad is None for parameter in loss.parameters())
    assert torch.allclose(agent.policies["bc"](demos)["action"], torch.tensor(0.5))
    assert agent.policies["rl"](demos)["action"].abs().max() < 0.1


@pytest.mark.parametrize("method", ["algo=ibrl_plus", "algo=ibrl algo.actor_init_steps=5"])
def test_without_updates_no_random_numbers_are_drawn(method, tmp_path):
    config = settings(*method.split())  # IBRL has no behaviour cloning term
    agent, replay = agent_and_replay(config, tmp_path)
    before = agent.loss.actor_network_params.clone(), torch.get_rng_state()
    pretrain_actor(config, agent, replay, CPU)
    assert (agent.loss.actor_network_params == before[0]).all()
    assert torch.equal(torch.get_rng_state(), before[1])
