"""Behaviour cloning."""

import pytest
import torch
from tensordict import TensorDict

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.imitation.train import train_imitation
from ibrl_torchrl.modules import Normalize, StateActor


def clone(network, transitions, steps=400, lr=3e-3, on_step=None):
    train_imitation(
        network, ["state"], transitions, steps=steps, batch_size=32, lr=lr, on_step=on_step
    )


def expert_data():
    state = torch.randn(64, 3)
    action = torch.tanh(state @ torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.5, 0.5]]))
    return TensorDict({"state": state, "action": action}, batch_size=[64])


def test_it_learns_the_demonstrated_actions():
    torch.manual_seed(0)
    data = expert_data()
    network = StateActor(Normalize.from_data(data["state"]), 2, hidden=[32, 32], dropout=0.0)
    clone(network, data)
    error = (network(data["state"]) - data["action"]).square().mean().item()
    assert error < 0.01 * data["action"].var().item()
    assert not network.training


def test_dropout_is_on_meanwhile_and_off_afterwards():
    network = StateActor(Normalize.identity(3), 2, hidden=[8], dropout=0.5).eval()
    modes = []
    clone(
        network, expert_data(), 250, on_step=lambda step, _: modes.append((step, network.training))
    )
    assert modes == [(100, True), (200, True), (250, True)]
    assert not any(module.training for module in network.modules())


def test_a_loss_that_is_not_finite_is_a_mistake_to_mend():
    data = expert_data()
    data["action"][:] = float("nan")
    network = StateActor(Normalize.identity(3), 2, hidden=[8])
    with pytest.raises(UsageError, match=r"^bc\.lr=0\.5: the BC loss became nan"):
        clone(network, data, 3, lr=0.5)
