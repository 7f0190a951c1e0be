"""Recurrent mixture policy: state while acting, sequences, stored proposals, loss."""

import math

import pytest
import torch
from support.parts import Countdown, actor, critics
from tensordict import TensorDict
from tensordict.nn import TensorDictSequential
from torchrl.envs import InitTracker, TransformedEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import set_recurrent_mode

from ibrl_torchrl.data.replay import CacheProposals
from ibrl_torchrl.episodes import window_steps
from ibrl_torchrl.imitation.train import train_imitation
from ibrl_torchrl.modules import (
    ExecuteProposal,
    FrozenPolicy,
    IBRLSelector,
    Normalize,
    RecurrentMixturePolicy,
    RecurrentPolicy,
    StateFeatures,
)
from ibrl_torchrl.modules.frozen import stateful_part
from ibrl_torchrl.objectives import LogLikelihoodLoss
from ibrl_torchrl.rollouts.episode import rollout_episode

STATE_KEYS = ["bc_action_hidden", "bc_action_cell", "bc_action_step"]


def network_of(state_size=2, action_size=1, **settings):
    torch.manual_seed(0)
    features = StateFeatures(Normalize.identity(state_size))
    settings = {"width": 8, "horizon": 4, **settings}
    network = RecurrentMixturePolicy(features, action_size, **settings)
    for parameter in network.parameters():
        parameter.data *= 3
    return network.eval()


def frozen(network):
    return FrozenPolicy(RecurrentPolicy(network, ["state"], "bc_action"), action_key="bc_action")


def deterministic():
    return set_exploration_type(ExplorationType.DETERMINISTIC)


@torch.no_grad()
def by_windows(network, states):
    """Actions of one episode [T, S], each ``horizon`` steps from a zero state."""
    with deterministic():
        windows = states.split(network.horizon)
        return torch.cat([network(window[None])[0] for window in windows])


def acted(policy, states):
    """Actions of a policy that reads the states one by one."""
    td, actions = TensorDict(batch_size=states.shape[1:-1]), []
    for state in states:
        td = policy(td.set("state", state))
        actions.append(td["bc_action"].clone())
    return torch.stack(actions), td


@pytest.mark.parametrize("layers", [1, 2])
def test_acting_is_the_network_on_windows_from_a_zero_state(layers):
    network = network_of(layers=layers)
    policy, states = frozen(network), torch.randn(10, 2)
    with deterministic():
        actions, td = acted(policy, states)
        expected = by_windows(network, states)
        assert torch.allclose(actions, expected, atol=1e-6)
        # The state matters: the same observations in another order give other actions.
        assert not torch.allclose(acted(policy, states.flip(0))[0].flip(0), expected, atol=1e-2)
    assert td["bc_action_step"].tolist() == [1]  # 9 modulo 4
    assert policy.out_keys == ["bc_action", *STATE_KEYS]
    assert stateful_part(policy) in ("LSTM", "LSTMModule")


def test_batches_act_as_single_ones_and_is_init_starts_an_episode():
    network = network_of()
    policy, states = frozen(network), torch.randn(6, 3, 2)
    with deterministic():
        actions, td = acted(policy, states)
        for index in range(3):
            expected = by_windows(network, states[:, index])
            assert torch.allclose(actions[:, index], expected, atol=1e-6)
        fresh = policy(TensorDict(state=states[0], batch_size=[3]))["bc_action"]
        is_init = torch.tensor([[True], [False], [True]])
        again = policy(td.set("state", states[0]).set("is_init", is_init))
    assert again["bc_action_step"].flatten().tolist() == [0, 2, 0]
    same = [torch.allclose(a, b, atol=1e-6) for a, b in zip(again["bc_action"], fresh, strict=True)]
    assert same == [True, False, True]


def test_samples_differ_and_stay_in_bounds():
    policy = frozen(network_of(action_size=3, min_std=0.5))
    td = TensorDict(state=torch.randn(50, 2), batch_size=[50])
    with set_exploration_type(ExplorationType.RANDOM):
        first, second = (policy(td.copy())["bc_action"] for _ in range(2))
    assert not torch.equal(first, second) and first.abs().max() == 1


@pytest.mark.parametrize("with_tracker", [False, True])
def test_the_state_survives_the_steps_of_an_environment_and_ends_with_the_episode(with_tracker):
    network = network_of()
    env = Countdown(9, 6)
    env = TransformedEnv(env, InitTracker()) if with_tracker else env
    policy = TensorDictSequential(frozen(network), ExecuteProposal("bc_action", 0))
    for seed in (0, 1):
        episode = rollout_episode(env, policy, seed)
        assert torch.allclose(episode["action"], by_windows(network, episode["state"]), atol=1e-6)
        assert not {*STATE_KEYS} & {*episode.keys()}


def test_stored_proposals_are_the_modes_of_acting():
    network = network_of(min_std=0.5)
    states = torch.randn(8, 2)
    episode = TensorDict(state=states[:-1], next={"state": states[1:]}, batch_size=[7])
    transform = CacheProposals(frozen(network))
    with set_exploration_type(ExplorationType.RANDOM):
        stored = transform.inv(episode.clone())
    expected = by_windows(network, states)
    assert torch.allclose(stored["bc_action"], expected[:-1], atol=1e-6)
    assert torch.allclose(stored["next", "bc_action"], expected[1:], atol=1e-6)


def test_a_sequence_of_several_episodes_is_read_from_each_start():
    network = network_of()
    states = torch.randn(3, 9, 2)
    policy = RecurrentPolicy(network, ["state"], "bc_action")
    with deterministic(), set_recurrent_mode(True), torch.no_grad():
        actions = policy(TensorDict(state=states, batch_size=[3, 9]))["bc_action"]
    expected = torch.stack([by_windows(network, each) for each in states])
    assert torch.allclose(actions, expected, atol=1e-6)


def test_loss_is_the_negative_log_likelihood_along_windows():
    network = network_of(components=1, min_std=0.5)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    # Mean 0, standard deviation softplus(0) + 0.5.
    std, action = math.log(2) + 0.5, torch.tensor([0.5, -0.1])[None, :, None]
    squares = (0.5**2 + 0.1**2) / 2
    nll = 0.5 * squares / std**2 + math.log(std) + 0.5 * math.log(2 * math.pi)
    data = TensorDict(state=torch.zeros(1, 2, 2), action=action, batch_size=[1, 2])
    loss = LogLikelihoodLoss(network.probabilistic_actor(["state"]))
    assert loss(data)["loss_nll"].item() == pytest.approx(nll, rel=1e-5)


def test_training_reaches_every_parameter_and_learns_what_needs_memory():
    """The action is the previous observation."""
    network = network_of(state_size=1, width=16, min_std=0.05).train()
    state = torch.rand(20, 30, 1) * 2 - 1
    action = state.roll(1, 1).clone()
    action[:, 0] = 0
    windows = window_steps(30, 4)
    data = TensorDict(
        state=state[:, windows].flatten(0, 1), action=action[:, windows].flatten(0, 1)
    ).auto_batch_size_(2)
    loss = LogLikelihoodLoss(network.probabilistic_actor(["state"]))
    loss(data[:4])["loss_nll"].backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    train_imitation(network, loss, data, steps=300, batch_size=64, lr=1e-2)
    remembered = torch.arange(1, 30) % network.horizon != 0
    error = (by_windows(network, state[0]) - action[0]).abs()[1:][remembered].mean()
    assert error < 0.15  # without memory 0.5


def test_the_selector_keeps_the_state_of_a_proposal_it_does_not_choose():
    network = network_of()
    policy = TensorDictSequential(
        actor(0.9), frozen(network), IBRLSelector(critics([1.0, 1.0]), ["rl_action", "bc_action"])
    ).eval()
    env = Countdown(7)
    found = []
    frozen_policy = policy[1]
    frozen_policy.register_forward_hook(lambda *args: found.append(args[2]["bc_action"].clone()))
    episode = rollout_episode(env, policy, 0)
    assert torch.allclose(torch.stack(found), by_windows(network, episode["state"]), atol=1e-6)
