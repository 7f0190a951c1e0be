"""Behaviour cloning."""

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.objectives import BCLoss

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.imitation.train import train_imitation
from ibrl_torchrl.modules import Normalize, StateActor


def clone(network, transitions, steps=400, lr=3e-3, on_step=None):
    loss = BCLoss(TensorDictModule(network, ["state"], ["action"]), loss_function="l2")
    train_imitation(network, loss, transitions, steps=steps, batch_size=32, lr=lr, on_step=on_step)


def expert_data():
    state = torch.randn(64, 3)
    action = torch.tanh(state @ torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.5, 0.5]]))
    return TensorDict({"state": state, "action": action}, batch_size=[64])


def test_train_imitation_fits_demonstrated_actions():
    torch.manual_seed(0)
    data = expert_data()
    network = StateActor(Normalize.from_data(data["state"]), 2, hidden=[32, 32], dropout=0.0)
    clone(network, data)
    error = (network(data["state"]) - data["action"]).square().mean().item()
    assert error < 0.01 * data["action"].var().item()
    assert not network.training


def test_train_imitation_dropout_is_on_during_training_and_off_afterwards():
    network = StateActor(Normalize.identity(3), 2, hidden=[8], dropout=0.5).eval()
    modes = []
    clone(network, expert_data(), 3, on_step=lambda step, _: modes.append((step, network.training)))
    assert modes == [(1, True), (2, True), (3, True)]
    assert not any(module.training for module in network.modules())


def test_train_imitation_passes_the_loss_and_ends_where_it_is_told_to():
    torch.manual_seed(0)
    network = StateActor(Normalize.identity(3), 2, hidden=[8], dropout=0.0)
    data, losses = expert_data()[:1], []
    before = (network(data["state"]) - data["action"]).square().mean().item()

    def on_step(step, loss):
        assert not loss.requires_grad
        losses.append(loss.item())
        return step == 2

    clone(network, data, 5, on_step=on_step)
    assert len(losses) == 2 and losses[0] == pytest.approx(before, rel=1e-5)
    assert losses[1] < losses[0] and not network.training


def test_train_imitation_refuses_loss_that_is_not_finite():
    data = expert_data()
    data["action"][:] = float("nan")
    network = StateActor(Normalize.identity(3), 2, hidden=[8])
    with pytest.raises(UsageError, match=r"^lr=0\.5: the imitation loss became nan"):
        clone(network, data, 3, lr=0.5)
