"""Outputs of critics: HL-Gauss's histograms against hand-computed numbers, and in the networks."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from support.parts import actor, proposal, transitions
from torch.nn.functional import log_softmax, softmax

from ibrl_torchrl.modules import (
    CriticEnsemble,
    DrQCriticEnsemble,
    HLGauss,
    IBRLSelector,
    Normalize,
    ScalarOutput,
    SpatialCriticEnsemble,
    StateCriticEnsemble,
)
from ibrl_torchrl.objectives import BCRegularizedTD3Loss, IBRLTD3Loss
from ibrl_torchrl.training.learner import Learner


def phi(z):
    """Distribution function of the standard normal distribution."""
    return (1 + math.erf(z / math.sqrt(2))) / 2


def small(**settings):
    """Four bins of width 0.25 on [0, 1], standard deviation 0.1875."""
    return HLGauss(0.0, 1.0, bins=4, **settings)


def test_target_histogram_equals_hand_computed_numbers():
    # Edges are -8/3, -4/3, 0, 4/3 and 8/3 standard deviations from the target 0.5.
    mass = phi(8 / 3) - phi(-8 / 3)
    outer, inner = (phi(-4 / 3) - phi(-8 / 3)) / mass, (phi(0) - phi(-4 / 3)) / mass
    assert (outer, inner) == pytest.approx((0.088056, 0.411944), abs=1e-6)
    probabilities = small().encode(torch.tensor([0.5]))
    assert torch.allclose(probabilities, torch.tensor([[outer, inner, inner, outer]]))


def test_target_at_the_end_of_the_support_is_cut_off_there():
    # From the target 0, edges are 0, 4/3, 8/3, 4 and 16/3 standard deviations away.
    edges = [0, 4 / 3, 8 / 3, 4, 16 / 3]
    mass = phi(16 / 3) - phi(0)
    expected = [(phi(b) - phi(a)) / mass for a, b in pairwise(edges)]
    inside, below = small().encode(torch.tensor([0.0, -7.0]))
    assert torch.allclose(inside, torch.tensor(expected), atol=1e-6)
    assert torch.equal(inside, below)


def test_loss_is_the_cross_entropy_and_value_the_expectation():
    logits = torch.tensor([[0.0, math.log(2), 0.0, math.log(4)]])  # 1/8, 2/8, 1/8, 4/8
    value = 0.125 / 8 + 2 * 0.375 / 8 + 0.625 / 8 + 4 * 0.875 / 8
    assert small().decode(logits).item() == pytest.approx(value)
    outer, inner = 0.088056, 0.411944
    entropy = -(outer * math.log(1 / 8) + inner * math.log(2 / 8))
    entropy -= inner * math.log(1 / 8) + outer * math.log(4 / 8)
    loss = small().loss(logits, torch.tensor([0.5]))
    assert loss.item() == pytest.approx(entropy, abs=1e-5)


def test_loss_has_the_gradient_of_a_classification():
    output, logits = small(), torch.randn(5, 4, requires_grad=True)
    target = torch.rand(5)
    output.loss(logits, target).sum().backward()
    assert torch.allclose(logits.grad, softmax(logits, -1) - output.encode(target), atol=1e-6)


def test_expectation_of_a_target_is_the_target_within_the_margin():
    output = HLGauss()
    target = torch.linspace(0, 1, 301)
    decoded = output.decode(output.encode(target).log())
    # Bins of width 1.2 / 101 = 0.012; their centres stand for what is in them.
    assert (decoded - target).abs().max() < 1e-4
    ends = output.decode(output.encode(torch.tensor([-0.1, 1.1])).log())
    assert ends.tolist() == pytest.approx([-0.1 + 0.0075, 1.1 - 0.0075], abs=1e-3)


def test_sigma_ratio_is_the_width_of_targets():
    narrow, broad = (small(sigma_ratio=ratio).encode(torch.tensor(0.4)) for ratio in (0.1, 3.0))
    assert narrow[1].item() == pytest.approx(1.0, abs=1e-4)
    assert 0.25 < broad[1].item() < 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"v_min": 1.1}, "v_min must be below v_max, got 1.1 and 1.1"),
        ({"bins": 1}, "bins must be at least 2 and sigma_ratio above 0, got 1 and 0.75"),
        ({"sigma_ratio": 0.0}, "bins must be at least 2 and sigma_ratio above 0, got 101 and 0.0"),
    ],
)
def test_arguments_out_of_range_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        HLGauss(**settings)


# In networks


def ensemble(output=None, **settings):
    settings = {"num_critics": 3, "hidden": [8], **settings}
    return StateCriticEnsemble(Normalize.identity(2), 1, output=output, **settings)


def feature_critics(make):
    return lambda output: make((4, 3), 2, num_critics=3, embedding=6, hidden=[8], output=output)


def trained(network):
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (ensemble, ((5, 2), (5, 1))),
        (feature_critics(SpatialCriticEnsemble), ((5, 4, 3), (5, 2))),
        (feature_critics(DrQCriticEnsemble), ((5, 4, 3), (5, 2))),
    ],
)
@torch.no_grad()
def test_networks_of_all_kinds_start_near_zero_and_give_expectations(make, inputs):
    torch.manual_seed(0)
    network = make(HLGauss())
    tensors = [torch.randn(shape) for shape in inputs]
    values = network(*tensors)
    assert values.shape == (5, 3) and values.abs().max() < 0.03  # the middle would be 0.5
    for parameter in trained(network):
        parameter.normal_()
    outputs = network.outputs(*tensors)
    assert outputs.shape == (3, 5, 101)
    centres = torch.linspace(-0.1, 1.1, 102)[:-1] + 0.6 / 101
    expected = (softmax(outputs, -1) * centres).sum(-1).T
    assert torch.allclose(network(*tensors), expected, atol=1e-5)
    members = torch.tensor([2, 0])
    subset = network(*tensors, members=members)
    assert torch.allclose(subset, expected[:, members], atol=1e-5)


@torch.no_grad()
def test_subset_of_a_large_batch_is_that_of_all_critics():
    network = ensemble(HLGauss())
    for parameter in trained(network):
        parameter.normal_()
    inputs, members = (torch.randn(7, 5, 2), torch.randn(7, 5, 1)), torch.tensor([2, 0])
    subset = network(*inputs, members=members)
    assert torch.allclose(subset, network(*inputs)[..., members], atol=1e-5)


def test_scalar_output_is_the_default_and_has_no_state():
    assert isinstance(ensemble().output, ScalarOutput)
    assert ensemble().state_dict().keys() == ensemble(ScalarOutput()).state_dict().keys()
    assert not any(name.startswith("output") for name in ensemble().state_dict())


# In the loss


def known_critics(values):
    """Critics of four bins whose histogram is concentrated at the centres ``values``."""
    network = ensemble(small(), num_critics=len(values), layer_norm=False)
    with torch.no_grad():
        for parameter in network.mlp.head.parameters():
            parameter.zero_()
        for member, value in enumerate(values):
            network.mlp.head.bias[member, 0, int(value * 4)] = 50.0
    return CriticEnsemble(network, ["state", "action"])


def make_loss(critic, **settings):
    settings = {"policy_noise": 0.0, "num_min": critic.num_critics, **settings}
    loss = IBRLTD3Loss(actor(0.2), critic, [proposal(0.5)], **settings)
    return loss.make_value_estimator(gamma=0.9)


@pytest.mark.parametrize(("reduction", "value"), [("min", 0.125), ("mean", 0.375)])
def test_target_selector_and_actor_loss_read_expectations(reduction, value):
    critic = known_critics([0.125, 0.625])
    loss = make_loss(critic, target_reduction=reduction, actor_reduction=reduction)
    batch = transitions(reward=0.1)
    _, info = loss.qvalue_loss(batch)
    assert torch.allclose(info["pred_value"], torch.tensor([0.125, 0.625]))
    assert torch.allclose(info["target_value"], torch.tensor(0.1 + 0.9 * value))
    error = (abs(0.125 - 0.1 - 0.9 * value) + abs(0.625 - 0.1 - 0.9 * value)) / 2
    assert torch.allclose(batch["td_error"], torch.tensor(error))
    assert loss.actor_loss(batch)[0].item() == pytest.approx(-value)
    selector = IBRLSelector(critic, ["rl_action", "bc_action"], reduction=reduction)
    td = batch.select("state").set("rl_action", batch["action"]).set("bc_action", batch["action"])
    assert torch.allclose(selector(td)["chosen_value"], torch.tensor(value))


def test_critic_loss_is_the_cross_entropy_summed_over_critics():
    critic = CriticEnsemble(ensemble(small()), ["state", "action"])
    loss = make_loss(critic, reduction="none")
    batch = transitions(6, reward=0.5, terminated=True)  # y = 0.5
    outputs = critic.module.outputs(batch["state"], batch["action"]).detach()
    target = torch.tensor([0.088056, 0.411944, 0.411944, 0.088056])
    expected = -(target * log_softmax(outputs, -1)).sum(-1).sum(0)
    value, info = loss.qvalue_loss(batch)
    assert value.shape == (6,) and torch.allclose(value, expected, atol=1e-5)
    assert info["pred_value"].shape == (6, 3)


def test_critic_loss_is_of_each_rows_own_target():
    critic = CriticEnsemble(ensemble(small()), ["state", "action"])
    loss = make_loss(critic, reduction="none")
    batch = transitions(6, terminated=True)
    batch["next", "reward"] = torch.rand(6, 1)
    whole, _ = loss.qvalue_loss(batch.clone())
    rows = [loss.qvalue_loss(batch[i : i + 1].clone())[0] for i in range(6)]
    assert torch.allclose(whole, torch.cat(rows), atol=1e-5)


def test_importance_weights_apply_to_the_cross_entropy():
    loss = make_loss(CriticEnsemble(ensemble(small()), ["state", "action"]), reduction="none")
    batch = transitions(4, reward=0.5, terminated=True)
    plain, _ = loss.qvalue_loss(batch.clone())
    weights = torch.tensor([1.0, 2.0, 3.0, 0.5])
    weighted, _ = loss.qvalue_loss(batch.set("priority_weight", weights))
    assert torch.allclose(weighted, plain * weights)


def test_support_is_neither_trained_nor_moved_by_the_targets():
    critic = CriticEnsemble(ensemble(HLGauss()), ["state", "action"])
    loss = make_loss(critic)
    support = critic.module.output.centres.clone()
    learner = Learner(loss, loss.terms(), lr=0.1, tau=0.3, critic_updates=1)
    for term in ("loss_qvalue", "loss_actor"):
        for _ in range(3):
            learner.update(term, transitions(32, reward=0.5))
    states = {key: value for key, value in loss.state_dict().items() if key.endswith("centres")}
    assert len(states) == 2 and all(torch.equal(value, support) for value in states.values())


def test_values_approach_a_constant_target():
    torch.manual_seed(0)
    critic = CriticEnsemble(ensemble(HLGauss(), hidden=[32]), ["state", "action"])
    loss = make_loss(critic)
    learner = Learner(loss, loss.terms(), lr=3e-3, tau=0.01, critic_updates=1)
    for _ in range(200):
        learner.update("loss_qvalue", transitions(64, reward=0.7, terminated=True))
    _, info = loss.qvalue_loss(transitions(64, reward=0.7, terminated=True))
    assert info["pred_value"].mean().item() == pytest.approx(0.7, abs=0.02)


def test_regularised_fine_tuning_takes_histograms():
    critic = CriticEnsemble(ensemble(HLGauss()), ["state", "action"])
    loss = BCRegularizedTD3Loss(actor(0.2), critic).make_value_estimator(gamma=0.9)
    batch = transitions(4).set("demo", transitions(4, action=0.0))
    loss.qvalue_loss(batch)[0].backward()
    assert loss.actor_loss(batch)[1]["bc_loss"].item() == pytest.approx(0.04)


def test_batches_of_trajectories_keep_their_shape():
    critic = CriticEnsemble(ensemble(small()), ["state", "action"])
    loss = make_loss(critic, reduction="none")
    batch = transitions(6, reward=0.5, terminated=True).reshape(2, 3)
    value, info = loss.qvalue_loss(batch)
    assert value.shape == (2, 3) and info["pred_value"].shape == (2, 3, 3)


def test_loss_of_histograms_compiles():
    torch.manual_seed(0)
    loss = make_loss(CriticEnsemble(ensemble(HLGauss()), ["state", "action"]))
    batch = transitions(6, reward=0.5)
    expected, _ = copy.deepcopy(loss).qvalue_loss(batch.clone())
    compiled, _ = torch.compile(loss.qvalue_loss, backend="eager")(batch.clone())
    assert torch.allclose(compiled, expected)
