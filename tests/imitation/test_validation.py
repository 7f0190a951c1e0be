"""Held-out demonstrations: split, loss, early stopping."""

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.objectives import BCLoss

from ibrl_torchrl.imitation.validation import EarlyStopping, ValidationLoss, hold_out
from ibrl_torchrl.modules import FlowPolicy, Normalize, StateActor, StateFeatures
from ibrl_torchrl.objectives import FlowMatchingLoss


def test_hold_out_splits_whole_episodes_at_random_by_the_seed():
    episodes = list("abcdefghij")
    torch.manual_seed(0)
    training, held_out = hold_out(episodes, 0.25)  # 2.5, rounded
    assert len(held_out) == 3 and sorted(training + held_out) == episodes
    assert training == sorted(training) and held_out == sorted(held_out)
    torch.manual_seed(0)
    assert hold_out(episodes, 0.25) == (training, held_out)
    others = {tuple(hold_out(episodes, 0.25)[1]) for _ in range(10)}
    assert len(others) > 5


def test_hold_out_of_none_draws_nothing():
    state = torch.get_rng_state()
    assert hold_out([1, 2], 0.0) == ([1, 2], [])
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("number", "fraction"), [(3, 0.1), (3, 0.9), (1, 0.5)])
def test_hold_out_refuses_an_empty_side(number, fraction):
    with pytest.raises(ValueError, match=rf"^fraction={fraction} holds out \d of {number} "):
        hold_out([*range(number)], fraction)


def test_validation_loss_is_the_mean_over_transitions_of_unequal_batches():
    network = nn.Linear(1, 1)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    loss = BCLoss(TensorDictModule(network, ["state"], ["action"]), loss_function="l2")
    action = torch.tensor([[1.0], [2.0], [4.0]])
    data = TensorDict(state=torch.zeros(3, 1), action=action, batch_size=[3])
    assert ValidationLoss(network, loss, data, batch_size=2)() == pytest.approx((1 + 4 + 16) / 3)


def test_validation_loss_is_without_dropout_and_gradients_and_restores_the_mode():
    torch.manual_seed(0)
    network = StateActor(Normalize.identity(1), 1, hidden=[64], dropout=0.5)
    loss = BCLoss(TensorDictModule(network, ["state"], ["action"]), loss_function="l2")
    data = TensorDict(state=torch.randn(5, 1), action=torch.randn(5, 1), batch_size=[5])
    found = ValidationLoss(network, loss, data, batch_size=5)()
    assert all(module.training for module in network.modules())
    network.eval()
    expected = (network(data["state"]) - data["action"]).square().mean().item()
    assert found == pytest.approx(expected, rel=1e-5)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_validation_draws_the_same_numbers_and_leaves_the_random_state():
    torch.manual_seed(0)
    network = FlowPolicy(StateFeatures(Normalize.identity(1)), 2, hidden=[8])
    loss = FlowMatchingLoss(TensorDictModule(network, ["state"], ["action"]))
    data = TensorDict(state=torch.zeros(4, 1), action=torch.zeros(4, 2), batch_size=[4])
    validation, state = ValidationLoss(network, loss, data, batch_size=3), torch.get_rng_state()
    first = validation()
    torch.randn(3)
    assert validation() == first
    torch.set_rng_state(state)
    validation()
    assert torch.equal(state, torch.get_rng_state())


def test_early_stopping_counts_validations_in_a_row_without_improvement():
    stopping = EarlyStopping(2)
    losses = [0.5, 0.5, 0.4, 0.6, 0.3, 0.3, 0.31, 0.1]
    assert [stopping.update(x) for x in losses] == [False] * 6 + [True, False]
    never = EarlyStopping(None)
    assert not any(never.update(1.0) for _ in range(1000))
