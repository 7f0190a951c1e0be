"""Networks: standardisation, ensembles, actors, dropout, frozen policies."""

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


def test_standardisation_by_hand_and_its_floor():
    data = torch.tensor([[0.0, 1.0, 5.0], [4.0, 1.1, 5.0]])
    scale = Normalize.from_data(data, min_std=0.1)
    # Means 2, 1.05, 5; standard deviations 2, 0.05 -> 0.1, 0 -> 0.1.
    assert torch.allclose(scale(torch.tensor([6.0, 1.15, 5.2])), torch.tensor([2.0, 1.0, 2.0]))
    assert not [*scale.parameters()] and set(scale.state_dict()) == {"mean", "std"}


def test_standardisation_of_chosen_entries_with_a_floor_for_each():
    data = torch.tensor([[0.0, 1.0, 5.0], [4.0, 1.1, 5.0]])
    floors, entries = torch.tensor([3.0, 0.01, 1.0]), torch.tensor([2, 0])
    scale = Normalize.from_data(data, floors, entries)
    # Of the third number, mean 5 and deviation 0 -> 1; of the first, mean 2 and 2 -> 3.
    assert torch.allclose(scale(torch.tensor([[8.0, 9.0, 5.5]])), torch.tensor([[0.5, 2.0]]))
    assert scale.size == 2 and set(scale.state_dict()) == {"mean", "std", "entries"}


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [(torch.zeros(2), torch.ones(3), "must be"), (torch.zeros(2), torch.zeros(2), "positive")],
)
def test_impossible_statistics_are_refused(mean, std, message):
    with pytest.raises(ValueError, match=message):
        Normalize(mean, std)


def test_the_ensemble_equals_separate_networks():
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


def test_members_start_independent_within_the_bounds_of_linear():
    ensemble = StateCriticEnsemble(Normalize.identity(62), 2, num_critics=3, hidden=[64])
    weight = ensemble.mlp.layers[0].weight
    assert not torch.equal(weight[0], weight[1]) and not torch.equal(weight[1], weight[2])
    # nn.Linear draws from +-1/sqrt(64) = +-0.125; so does each unit's own bias.
    assert 0.12 < weight.abs().max().item() <= 0.125
    assert ensemble.mlp.layers[0].bias.shape == (3, 1, 64)


@pytest.mark.parametrize("batch", [(), (3,), (40,), (2, 3)])
def test_a_subset_of_members_gives_their_columns_in_order(batch):
    ensemble = StateCriticEnsemble(Normalize.identity(5), 2, num_critics=4, hidden=[7])
    state, action = torch.randn(*batch, 5), torch.randn(*batch, 2)
    members = torch.tensor([3, 1])
    assert ensemble(state, action).shape == (*batch, 4)
    subset = ensemble(state, action, members)
    assert torch.allclose(subset, ensemble(state, action)[..., members], atol=1e-6)


def test_actor_output_is_bounded_and_dropout_follows_the_mode():
    network = StateActor(Normalize.identity(3), 2, hidden=[32, 32], layer_norm=True)
    state = torch.randn(5, 3) * 100
    assert network(state).abs().max() <= 1
    assert not torch.equal(network(state), network(state))
    network.eval()
    assert torch.equal(network(state), network(state))


def test_frozen_means_frozen():
    actor, _, frozen = networks()
    parent = nn.ModuleList([actor, frozen]).train()
    assert actor.training and not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    state = torch.randn(3, 6, requires_grad=True)
    out = frozen(TensorDict(state=state, batch_size=[3]))["bc_action"]
    assert not out.requires_grad
    assert {f"1.{name}" for name in frozen.state_dict()} <= set(parent.state_dict())
    assert next(parent.double()[1].parameters()).dtype == torch.float64


def test_a_policy_writes_one_action():
    module = TensorDictModule(lambda x: (x, x), ["state"], ["a", "b"])
    with pytest.raises(ValueError, match="one key"):
        FrozenPolicy(module)


def test_a_twin_shares_tensors_but_not_modes():
    actor, _, _ = networks()
    twin = tied_copy(actor).eval()
    assert actor.training and not twin.training
    for own, other in zip(actor.parameters(), twin.parameters(), strict=True):
        assert own.data_ptr() == other.data_ptr()
    td = TensorDict(state=torch.randn(6))
    before = twin(td.clone())["rl_action"]
    for parameter in actor.parameters():
        parameter.data.add_(0.1)
    assert not torch.equal(twin(td.clone())["rl_action"], before)


def test_the_lean_module_does_what_tensordicts_does():
    network = nn.Linear(3, 2)
    td = TensorDict(state=torch.randn(4, 3), batch_size=[4])
    for lean in (FastTensorDictModule, TensorDictModule):
        assert torch.equal(lean(network, ["state"], ["a"])(td.clone())["a"], network(td["state"]))
    out = TensorDict(batch_size=[4])
    FastTensorDictModule(network, ["state"], ["a"])(td, tensordict_out=out)
    assert set(out.keys()) == {"a"}


def test_tensordict_still_searches_for_pandas(monkeypatch):
    """Fails once tensordict stops doing so: then LeanTensorDictModule can go."""
    import importlib.util

    asked = []
    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda *a: asked.append(a[0]) or original(*a))
    td = TensorDict(state=torch.randn(3))
    TensorDictModule(nn.Linear(3, 2), ["state"], ["a"])(td)
    assert "pandas" in asked
    asked.clear()
    FastTensorDictModule(nn.Linear(3, 2), ["state"], ["a"])(td)
    assert not asked
