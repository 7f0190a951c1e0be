"""Behaviour cloning and selection of weights."""

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.objectives import BCLoss

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.imitation.train import TopKWeights, train_imitation
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
    clone(
        network, expert_data(), 250, on_step=lambda step, _: modes.append((step, network.training))
    )
    assert modes == [(100, True), (200, True), (250, True)]
    assert not any(module.training for module in network.modules())


def test_train_imitation_refuses_loss_that_is_not_finite():
    data = expert_data()
    data["action"][:] = float("nan")
    network = StateActor(Normalize.identity(3), 2, hidden=[8])
    with pytest.raises(UsageError, match=r"^lr=0\.5: the imitation loss became nan"):
        clone(network, data, 3, lr=0.5)


def test_top_k_weights_copies_the_best_and_loads_one_at_random():
    network = torch.nn.Linear(1, 1)
    best = TopKWeights(2)
    for step, score in [(1, 0.2), (2, 0.9), (3, 0.5), (4, 0.5)]:
        torch.nn.init.constant_(network.weight, step)
        best.update(network, step, score)
    torch.manual_seed(0)
    loaded = {(*best.load_random(network), network.weight.item()) for _ in range(30)}
    assert loaded == {(2, 0.9, 2.0), (4, 0.5, 4.0)}  # the later step wins a tie
