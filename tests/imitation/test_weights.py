"""Moving average and best weights of a training."""

import pytest
import torch
from torch import nn

from ibrl_torchrl.imitation.weights import (
    AveragedWeights,
    TopKWeights,
    TrainedWeights,
    weights_of,
)


def moved(network, weights, *values):
    """Set the network's weight to each value, as after an optimiser step."""
    for value in values:
        nn.init.constant_(network.weight, value)
        weights.update()


def test_average_by_hand_with_warm_up_and_limit_of_the_decay():
    network = nn.Linear(1, 1, bias=False)
    weights = AveragedWeights(network, 0.2)
    moved(network, weights, 4.0, 1.0, 0.0)
    # Decays: first a copy; then (1 + 1) / (10 + 1) = 2/11; then 3/12, limited to 0.2.
    expected = 0.2 * (2 / 11 * 4.0 + 9 / 11 * 1.0)
    with weights.applied():
        assert network.weight.item() == pytest.approx(expected, rel=1e-6)
    assert network.weight.item() == 0.0
    weights.load()
    assert network.weight.item() == pytest.approx(expected, rel=1e-6)


def test_average_restores_the_weights_of_the_optimiser_in_place_after_an_error():
    network = nn.Linear(1, 1)
    weights, parameter = AveragedWeights(network, 0.999), network.weight
    moved(network, weights, 1.0, 2.0)
    with pytest.raises(RuntimeError), weights.applied():
        raise RuntimeError
    assert network.weight is parameter and parameter.item() == 2.0


def test_average_leaves_buffers_as_they_are():
    network = nn.BatchNorm1d(1)
    weights = AveragedWeights(network, 0.999)
    weights.update()
    network(torch.tensor([[2.0], [4.0]]))
    weights.update()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    assert before["running_mean"].item() == pytest.approx(0.3)
    with weights.applied():
        assert all(torch.equal(before[name], value) for name, value in network.named_buffers())


def test_without_average_the_weights_are_the_networks():
    network = nn.Linear(1, 1)
    weights = weights_of(network, None)
    assert type(weights) is TrainedWeights and isinstance(weights_of(network, 0.9), AveragedWeights)
    moved(network, weights, 1.0, 2.0)
    with weights.applied():
        assert network.weight.item() == 2.0
    weights.load()
    assert network.weight.item() == 2.0


def test_top_k_weights_copies_the_best_and_loads_one_at_random():
    network = torch.nn.Linear(1, 1)
    best = TopKWeights(2)
    for step, score in [(1, 0.2), (2, 0.9), (3, 0.5), (4, 0.5)]:
        torch.nn.init.constant_(network.weight, step)
        best.update(network, step, score)
    torch.manual_seed(0)
    loaded = {(*best.load_random(network), network.weight.item()) for _ in range(30)}
    assert loaded == {(2, 0.9, 2.0), (4, 0.5, 4.0)}  # the later step wins a tie
