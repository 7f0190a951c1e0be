"""Actors initialised by imitation policies: the same actions, and the scale that was asked for."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs import ExplorationType, set_exploration_type

from ibrl_torchrl.builders.agent_networks import build_agent_networks
from ibrl_torchrl.builders.chunks import chunk_spec
from ibrl_torchrl.builders.initialization import initialize_actor
from ibrl_torchrl.builders.policies import build_imitation_policy
from ibrl_torchrl.config.algo import AlgoConfig, LossConfig, ResidualConfig
from ibrl_torchrl.config.imitation import ImitationConfig
from ibrl_torchrl.config.networks import CriticConfig, NetworkConfig
from ibrl_torchrl.keys import ACTION, BC_ACTION, RL_ACTION, STATE
from ibrl_torchrl.modules import Normalize

SPEC = Composite(state=Unbounded(4))
ACTIONS = chunk_spec(Bounded(-1.0, 1.0, (2,)), 3)
STATISTICS = Normalize(torch.arange(4.0), torch.full((4,), 2.0))


def networks(algorithm, dropout=0.5):
    algo = AlgoConfig(
        actor=NetworkConfig(hidden=[8, 16], dropout=dropout),
        critic=CriticConfig(hidden=[8], num_critics=3),
        loss=LossConfig(algorithm=algorithm),
    )
    identity = {STATE: Normalize.identity(4)}
    return build_agent_networks(algo, identity, SPEC, ACTIONS, torch.device("cpu"))


@pytest.mark.parametrize("algorithm", ["td3", "sac", "tqc", "redq_sac"])
@pytest.mark.parametrize("policy", ["mlp", "cvae"])
def test_the_actor_starts_with_the_policys_actions(policy, algorithm):
    torch.manual_seed(0)
    network = NetworkConfig(hidden=[8, 16], dropout=0.0)
    config = ImitationConfig(policy=policy, network=network)
    imitation = build_imitation_policy(config, {STATE: STATISTICS}, SPEC, 6).eval()
    built = networks(algorithm)
    initialize_actor(built, imitation, std=0.2)
    actor = built.actor.eval()
    states = torch.randn(7, 4) * 5
    with set_exploration_type(ExplorationType.DETERMINISTIC), torch.no_grad():
        td = actor(TensorDict({STATE: states}, batch_size=[7]))
        expected = imitation(states)
    torch.testing.assert_close(td[RL_ACTION if algorithm == "td3" else ACTION], expected)
    if algorithm != "td3":
        torch.testing.assert_close(td["scale"], torch.full((7, 6), 0.2))


def test_an_action_beside_an_edit_starts_as_the_policys():
    torch.manual_seed(0)
    network = NetworkConfig(hidden=[8, 16], dropout=0.0)
    config = ImitationConfig(network=network)
    imitation = build_imitation_policy(config, {STATE: STATISTICS}, SPEC, 6).eval()
    algo = AlgoConfig(actor=network, residual=ResidualConfig(own_action=True))
    identity = {STATE: Normalize.identity(4)}
    built = build_agent_networks(algo, identity, SPEC, ACTIONS, torch.device("cpu"))
    initialize_actor(built, imitation, std=0.2)
    td = TensorDict({STATE: torch.randn(7, 4) * 5, BC_ACTION: torch.rand(7, 6)}, batch_size=[7])
    edit, own = built.actor.eval()(td)[RL_ACTION].unbind(-2)
    torch.testing.assert_close(own, imitation(td[STATE]))
    assert torch.equal(edit, td[BC_ACTION])


def test_the_policy_is_copied_not_shared():
    config = ImitationConfig(network=NetworkConfig(hidden=[8, 16], dropout=0.0))
    imitation = build_imitation_policy(config, {STATE: STATISTICS}, SPEC, 6)
    built = networks("sac")
    initialize_actor(built, imitation, std=0.2)
    storages = {parameter.data_ptr() for parameter in imitation.parameters()}
    assert storages.isdisjoint(parameter.data_ptr() for parameter in built.actor.parameters())


def test_the_space_of_a_chunk_repeats_the_bounds_of_an_action():
    low, high = torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 3.0])
    spec = chunk_spec(Bounded(low, high, (2,)), 2)
    assert spec.space.low.tolist() == [-1, -2, -1, -2]
    assert spec.space.high.tolist() == [1, 3, 1, 3]
    single = Bounded(low, high, (2,))
    assert chunk_spec(single, 1) is single
