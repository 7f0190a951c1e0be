"""Normalisation, state networks, frozen policies, tied copies, FastTensorDictModule."""

import pytest
import torch
import torch.nn.functional as F
from support.parts import networks
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn

from ibrl_torchrl.modules import (
    FastTensorDictModule,
    FrozenPolicy,
    Normalize,
    StateActor,
    StateCriticEnsemble,
    tied_copy,
)


def test_normalize_from_data_with_minimum_std():
    data = torch.tensor([[0.0, 1.0, 5.0], [4.0, 1.1, 5.0]])
    scale = Normalize.from_data(data, min_std=0.1)
    # Means 2, 1.05, 5; standard deviations 2, 0.05 -> 0.1, 0 -> 0.1.
    assert torch.allclose(scale(torch.tensor([6.0, 1.15, 5.2])), torch.tensor([2.0, 1.0, 2.0]))
    assert not [*scale.parameters()] and set(scale.state_dict()) == {"mean", "std"}


def test_statistics_follow_the_device_of_the_observation():
    # As those of weight-sharing copies must, which .to() of the loss does not reach.
    entries = torch.tensor([1, 0])
    scale = Normalize.identity(2, entries)
    assert scale(torch.zeros(3, 2, device="meta")).shape == (3, 2)
    assert {value.device.type for value in scale.state_dict().values()} == {"meta"}


def test_normalize_selected_entries_with_minimum_std_per_entry():
    data = torch.tensor([[0.0, 1.0, 5.0], [4.0, 1.1, 5.0]])
    min_std, entries = torch.tensor([3.0, 0.01, 1.0]), torch.tensor([2, 0])
    scale = Normalize.from_data(data, min_std, entries)
    # Entry 2: mean 5, standard deviation 0 -> 1; entry 0: mean 2, standard deviation 2 -> 3.
    assert torch.allclose(scale(torch.tensor([[8.0, 9.0, 5.5]])), torch.tensor([[0.5, 2.0]]))
    assert scale.size == 2 and set(scale.state_dict()) == {"mean", "std", "entries"}


def test_normalize_differences_of_entries():
    data = torch.tensor([[0.0, 1.0, 5.0], [4.0, 1.1, 5.0]])
    entries, pairs = torch.tensor([1]), torch.tensor([[0, 2], [2, 0]])
    scale = Normalize.from_data(data, 0.1, entries, pairs, min_std_difference=4.0)
    # Entry 1: mean 1.05, standard deviation 0.1. Entry 0 - entry 2: -5 and -1, mean -3, standard
    # deviation 2 -> 4; the other pair is the opposite.
    normalized = scale(torch.tensor([6.0, 1.15, 5.0]))
    assert torch.allclose(normalized, torch.tensor([1.0, 1.0, -1.0]))
    assert scale.size == 3
    assert scale(torch.zeros(2, 3, device="meta")).shape == (2, 3)


@pytest.mark.parametrize(
    ("entries", "pairs", "message"),
    [
        (torch.tensor([0]), torch.tensor([[0, 1]]), r"entries must be \[2\], got \[1\]"),
        (None, torch.tensor([0, 1]), r"differences must be \[d, 2\], got \[2\]"),
    ],
)
def test_wrong_indices_of_a_normalisation_raise(entries, pairs, message):
    with pytest.raises(ValueError, match=message):
        Normalize(torch.zeros(3), torch.ones(3), entries, pairs)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [(torch.zeros(2), torch.ones(3), "must be"), (torch.zeros(2), torch.zeros(2), "positive")],
)
def test_invalid_statistics_raise(mean, std, message):
    with pytest.raises(ValueError, match=message):
        Normalize(mean, std)


def test_ensemble_equals_separate_networks():
    torch.manual_seed(0)
    ensemble = StateCriticEnsemble(Normalize.identity(5), 2, num_critics=4, hidden=[7, 6])
    for parameter in ensemble.parameters():
        parameter.data.normal_()
    state, action = torch.randn(3, 2, 5), torch.randn(3, 2, 2)
    values = ensemble(state, action)
    for i in range(4):
        x = torch.cat([state, action], -1)
        for layer, norm in zip(ensemble.mlp.layers, ensemble.mlp.norms, strict=True):
            x = F.linear(x, layer.weight[i].T, layer.bias[i, 0])
            x = F.relu(F.layer_norm(x, x.shape[-1:], norm.weight[i, 0], norm.bias[i, 0]))
        x = F.linear(x, ensemble.mlp.head.weight[i].T, ensemble.mlp.head.bias[i, 0])
        assert torch.allclose(values[..., i], x.squeeze(-1), atol=1e-5)


def test_ensemble_members_are_initialised_as_separate_linear_layers():
    ensemble = StateCriticEnsemble(Normalize.identity(62), 2, num_critics=3, hidden=[64])
    weight = ensemble.mlp.layers[0].weight
    assert not torch.equal(weight[0], weight[1]) and not torch.equal(weight[1], weight[2])
    # nn.Linear draws weights and biases from +-1/sqrt(64) = +-0.125.
    assert 0.12 < weight.abs().max().item() <= 0.125
    assert ensemble.mlp.layers[0].bias.shape == (3, 1, 64)


@pytest.mark.parametrize("batch", [(), (3,), (40,), (2, 3)])
def test_members_select_values_in_order(batch):
    ensemble = StateCriticEnsemble(Normalize.identity(5), 2, num_critics=4, hidden=[7])
    state, action = torch.randn(*batch, 5), torch.randn(*batch, 2)
    members = torch.tensor([3, 1])
    assert ensemble(state, action).shape == (*batch, 4)
    subset = ensemble(state, action, members=members)
    assert torch.allclose(subset, ensemble(state, action)[..., members], atol=1e-6)


def test_actor_output_is_bounded_and_dropout_follows_train_mode():
    network = StateActor(Normalize.identity(3), 2, hidden=[32, 32], layer_norm=True)
    state = torch.randn(5, 3) * 100
    assert network(state).abs().max() <= 1
    assert not torch.equal(network(state), network(state))
    network.eval()
    assert torch.equal(network(state), network(state))


def test_frozen_policy_stays_in_eval_mode_without_gradients():
    actor, _, frozen = networks()
    parent = nn.ModuleList([actor, frozen]).train()
    assert actor.training and not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    state = torch.randn(3, 6, requires_grad=True)
    out = frozen(TensorDict(state=state, batch_size=[3]))["bc_action"]
    assert not out.requires_grad
    assert {f"1.{name}" for name in frozen.state_dict()} <= set(parent.state_dict())
    assert next(parent.double()[1].parameters()).dtype == torch.float64


def test_frozen_policy_with_two_out_keys_raises():
    module = TensorDictModule(lambda x: (x, x), ["state"], ["a", "b"])
    with pytest.raises(ValueError, match="one key"):
        FrozenPolicy(module)


def test_tied_copy_shares_tensors_but_not_modes():
    actor, _, _ = networks()
    copied = tied_copy(actor).eval()
    assert actor.training and not copied.training
    for original, shared in zip(actor.parameters(), copied.parameters(), strict=True):
        assert original.data_ptr() == shared.data_ptr()
    td = TensorDict(state=torch.randn(6))
    before = copied(td.clone())["rl_action"]
    for parameter in actor.parameters():
        parameter.data.add_(0.1)
    assert not torch.equal(copied(td.clone())["rl_action"], before)


def test_fast_module_equals_tensordict_module():
    network = nn.Linear(3, 2)
    td = TensorDict(state=torch.randn(4, 3), batch_size=[4])
    for kind in (FastTensorDictModule, TensorDictModule):
        assert torch.equal(kind(network, ["state"], ["a"])(td.clone())["a"], network(td["state"]))
    out = TensorDict(batch_size=[4])
    FastTensorDictModule(network, ["state"], ["a"])(td, tensordict_out=out)
    assert set(out.keys()) == {"a"}


def test_tensordict_module_searches_for_pandas(monkeypatch):
    """Fails once tensordict no longer does; then FastTensorDictModule can be removed."""
    import importlib.util

    searched = []
    original = importlib.util.find_spec

    def spy(name, *args):
        searched.append(name)
        return original(name, *args)

    monkeypatch.setattr(importlib.util, "find_spec", spy)
    td = TensorDict(state=torch.randn(3))
    TensorDictModule(nn.Linear(3, 2), ["state"], ["a"])(td)
    assert "pandas" in searched
    searched.clear()
    FastTensorDictModule(nn.Linear(3, 2), ["state"], ["a"])(td)
    assert not searched
