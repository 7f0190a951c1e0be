"""Actors: order of the hidden layers, several observation keys, action bounds."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from support.parts import networks
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.data import Bounded
from torchrl.modules import MLP

from ibrl_torchrl.modules import (
    DrQCriticEnsemble,
    FeatureActor,
    FlattenHead,
    Normalize,
    SpatialCriticEnsemble,
    StateActor,
    tied_copy,
)
from ibrl_torchrl.modules.actors import ActionBounds
from ibrl_torchrl.modules.dropout import FastDropout
from ibrl_torchrl.modules.initialize import orthogonal_

SHAPE = (3, 2)  # patches, size of each
HIDDEN = [16, 8]


def state_actor(**settings):
    return StateActor(Normalize.identity(6), 2, hidden=HIDDEN, **settings)


def feature_actor(**settings):
    return FeatureActor(FlattenHead(SHAPE), 2, hidden=HIDDEN, **settings)


# Both read 6 numbers: their MLPs are of equal sizes.
INPUTS = {state_actor: (5, 6), feature_actor: (5, *SHAPE)}
BOTH_ACTORS = pytest.mark.parametrize("make", INPUTS)


@pytest.mark.parametrize("critics", [SpatialCriticEnsemble, DrQCriticEnsemble])
def test_proprioception_that_a_network_does_not_read_is_refused(critics):
    critic = critics(SHAPE, 2, embedding=8, hidden=HIDDEN)
    features, vector, action = torch.zeros(5, *SHAPE), torch.zeros(5, 4), torch.zeros(5, 2)
    message = r"got 1 vectors of proprioception, this network reads 0; pass proprio="
    with pytest.raises(ValueError, match=message):
        feature_actor()(features, vector)
    with pytest.raises(ValueError, match=message):
        critic(features, vector, action)


def torchrl_mlp(*, dropout=0.5, layer_norm=True):
    """TorchRL's MLP: hidden layers of linear, dropout, norm, ReLU."""
    return MLP(
        6,
        2,
        num_cells=HIDDEN,
        activation_class=nn.ReLU,
        norm_class=nn.LayerNorm if layer_norm else None,
        norm_kwargs=[{"normalized_shape": size} for size in HIDDEN] if layer_norm else None,
        dropout=dropout,
    )


def randomise(actor):
    """Random parameters of the MLP, those of layer norms and biases included."""
    for parameter in actor.mlp.parameters():
        nn.init.normal_(parameter, std=0.5)
    return actor


# Hidden layers


@BOTH_ACTORS
def test_dropout_comes_after_layer_norm_and_before_relu(make):
    torch.manual_seed(0)
    actor = randomise(make(**({"layer_norm": True} if make is state_actor else {})))
    inputs = torch.randn(INPUTS[make])
    weights = list(actor.mlp.parameters())

    torch.manual_seed(1)
    action = actor(inputs)

    torch.manual_seed(1)  # the same masks
    x = inputs.flatten(1)
    for weight, bias, scale, shift in zip(*[iter(weights[:8])] * 4, strict=True):
        x = F.layer_norm(F.linear(x, weight, bias), bias.shape, scale, shift)
        x = F.relu(FastDropout(0.5)(x))
    assert torch.equal(action, F.linear(x, *weights[8:]).tanh())


@BOTH_ACTORS
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_eval_mode_is_independent_of_the_place_of_dropout(make, dropout):
    torch.manual_seed(0)
    settings = {"layer_norm": True} if make is state_actor else {}
    actor = randomise(make(dropout=dropout, **settings)).eval()
    mlp = torchrl_mlp(dropout=dropout or None).eval()
    for own, other in zip(actor.mlp.parameters(), mlp.parameters(), strict=True):
        other.data.copy_(own.data)
    inputs = torch.randn(INPUTS[make])
    assert torch.equal(actor(inputs), mlp(inputs.flatten(1)).tanh())


@pytest.mark.parametrize("orthogonal", [True, False])
def test_feature_actor_draws_its_initial_weights_in_order_of_the_layers(orthogonal):
    torch.manual_seed(0)
    actor = feature_actor(orthogonal=orthogonal)
    torch.manual_seed(0)
    mlp = torchrl_mlp()
    if orthogonal:
        orthogonal_(mlp)
    assert all(map(torch.equal, actor.mlp.parameters(), mlp.parameters()))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_state_actor_without_layer_norm_equals_torchrl_mlp(dropout):
    """Names, initial weights and outputs; files of trained actors depend on them."""
    torch.manual_seed(0)
    actor = state_actor(dropout=dropout)
    torch.manual_seed(0)
    mlp = torchrl_mlp(dropout=dropout or None, layer_norm=False)
    assert actor.mlp.state_dict().keys() == mlp.state_dict().keys()
    assert all(map(torch.equal, actor.mlp.parameters(), mlp.parameters()))
    for i, layer in enumerate(mlp):
        if isinstance(layer, nn.Dropout):
            mlp[i] = FastDropout(layer.p)
    states = torch.randn(5, 6)
    torch.manual_seed(1)
    action = actor(states)
    torch.manual_seed(1)
    assert torch.equal(action, mlp(states).tanh())


# Observation keys


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_state_actor_concatenates_observations_in_order(batch):
    actor = randomise(state_actor()).eval()
    actor.normalize.mean.data.copy_(torch.arange(6.0))
    state = torch.randn(*batch, 6)
    action = actor(*state.split([3, 2, 1], -1))
    assert action.shape == (*batch, 2)
    assert torch.equal(action, actor(state))


def test_state_actor_reads_several_keys():
    actor = randomise(state_actor()).eval()
    policy = TensorDictModule(actor, ["observation", "desired_goal"], ["rl_action"])
    td = TensorDict(observation=torch.randn(3, 4), desired_goal=torch.randn(3, 2), batch_size=[3])
    expected = actor(torch.cat([td["observation"], td["desired_goal"]], -1))
    assert torch.equal(policy(td)["rl_action"], expected)


def test_one_observation_is_not_concatenated(monkeypatch):
    monkeypatch.setattr(torch, "cat", None)
    assert state_actor()(torch.zeros(6)).shape == (2,)


# Action bounds


@BOTH_ACTORS
def test_bounds_map_tanh_linearly(make):
    torch.manual_seed(0)
    bounded = randomise(make(bounds=(-2.0, 2.0))).eval()
    plain = make().eval()
    names = bounded.state_dict().keys() - plain.state_dict().keys()
    assert names == {"bounds.low", "bounds.high"}
    plain.load_state_dict({k: v for k, v in bounded.state_dict().items() if k not in names})
    inputs = torch.randn(INPUTS[make])
    assert torch.allclose(bounded(inputs), 2 * plain(inputs))


@BOTH_ACTORS
def test_bounds_per_dimension_are_reached_and_not_exceeded(make):
    torch.manual_seed(0)
    low, high = torch.tensor([-0.1, 1.0]), torch.tensor([0.3, 4.0])
    actor = randomise(make(bounds=(low, high))).eval()
    nn.init.zeros_(actor.mlp[-1].weight)
    for signs in itertools.product([-1.0, 1.0], repeat=2):
        actor.mlp[-1].bias.data = 100 * torch.tensor(signs)  # tanh is -1 or 1 exactly
        expected = torch.where(torch.tensor(signs) > 0, high, low)
        assert torch.equal(actor(torch.randn(INPUTS[make])), expected.expand(5, 2))
    nn.init.zeros_(actor.mlp[-1].bias)
    assert torch.allclose(actor(torch.randn(INPUTS[make])), torch.tensor([0.1, 2.5]))
    spec = Bounded(low, high)
    randomise(actor)
    assert spec.is_in(actor(torch.randn(INPUTS[make]))[0])


def test_bounds_stay_within_their_spec_for_every_tanh():
    spec = Bounded(torch.tensor([-0.1, -0.7, 0.1]), torch.tensor([0.3, 0.7, 0.2]))
    bounds = ActionBounds(spec.space.low, spec.space.high, 3)
    values = torch.linspace(-1, 1, 100_001)[:, None].expand(-1, 3)
    action = bounds(values)
    assert (action >= bounds.low).all() and (action <= bounds.high).all()
    assert (action.diff(dim=0) >= 0).all()


@BOTH_ACTORS
def test_bounds_follow_dtype_and_state_dict(make):
    torch.manual_seed(0)
    actor = make(bounds=(0.0, torch.tensor([1.0, 2.0]))).eval()
    other = make(bounds=(-1.0, 1.0)).eval()
    other.load_state_dict(actor.state_dict())
    inputs = torch.randn(INPUTS[make])
    assert torch.equal(other(inputs), actor(inputs))
    actor.to(torch.float64)
    action = actor(inputs.double())
    assert action.dtype == torch.float64
    assert torch.allclose(action.float(), other(inputs), atol=1e-6)
    assert not actor.bounds.low.requires_grad and not actor.bounds.high.requires_grad


def test_bounds_move_with_those_of_a_weight_sharing_copy():
    bounds = ActionBounds(-2.0, 2.0, 2)
    copied = tied_copy(bounds)
    bounds.to(torch.float64)
    assert torch.equal(copied(torch.ones(2).double()), torch.tensor([2.0, 2.0]).double())


def test_bounds_hold_under_autocast():
    actor = state_actor(bounds=(-2.0, 2.0))
    actor.mlp[-1].bias.data.fill_(100.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (actor(torch.zeros(3, 6)) == 2).all()


def test_actors_without_bounds_have_no_buffers_of_them():
    actor, _, _ = networks()
    assert not [name for name in actor.state_dict() if "bounds" in name or "low" in name]


@BOTH_ACTORS
@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ((1.0, -1.0), r"low < high, got low=1.0, high=-1.0$"),
        ((torch.zeros(2), torch.tensor([1.0, 0.0])), r"got low=\[0.0, 0.0\], high=\[1.0, 0.0\]$"),
        ((0.0, torch.nan), r"got low=0.0, high=nan$"),
        ((-torch.inf, 1.0), r"must be finite, got low=-inf, high=1.0$"),
        ((torch.zeros(3), torch.ones(3)), r"numbers or \[2\], got \[3\] and \[3\]$"),
    ],
)
def test_invalid_bounds_raise(make, bounds, message):
    with pytest.raises(ValueError, match=message) as info:
        make(bounds=bounds)
    assert "\n" not in str(info.value)
