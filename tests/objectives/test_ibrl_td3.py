"""IBRLTD3Loss: analytic values, gradients, keys and terms."""

import copy

import pytest
import torch
from support.parts import actor, critics, networks, proposal, transitions
from torchrl.objectives import HardUpdate, SoftUpdate

from ibrl_torchrl.modules import IBRLSelector, tied_copy
from ibrl_torchrl.objectives import IBRLTD3Loss, bootstrap_from, hybrid_policy


def make_loss(actor_network, critic, proposals=(), gamma=0.9, **settings):
    settings = {"policy_noise": 0.0, "num_min": critic.num_critics, **settings}
    loss = IBRLTD3Loss(actor_network, critic, proposals, **settings)
    return loss.make_value_estimator(gamma=gamma)


def make_mlp_loss(**settings):
    actor_network, critic, frozen = networks()
    return make_loss(actor_network, critic, [frozen], **{"num_min": 2, **settings})


def make_mlp_batch(size=8):
    return transitions(size, state_size=6, action_size=2)


# Analytic values


@pytest.mark.parametrize(
    ("outcome", "target"),
    [
        # Q = min(a, 2a): 0.2 for a_RL = 0.2 and 0.5 for a_IL = 0.5. 1 + 0.9 * 0.5 = 1.45.
        ({}, 1.45),
        ({"terminated": True}, 1.0),  # no bootstrap after termination
        ({"truncated": True}, 1.45),  # a time limit is no termination
    ],
)
def test_td_target_equals_analytic_value(outcome, target):
    loss = make_loss(actor(0.2), critics([1.0, 2.0]), [proposal(0.5)])
    _, info = loss.qvalue_loss(transitions(reward=1.0, **outcome))
    assert torch.allclose(info["target_value"], torch.tensor(target))
    assert torch.allclose(info["next_state_value"], torch.tensor(0.5))
    assert (info["next_proposal"] == 1).all()


def test_target_does_not_choose_a_worse_proposal():
    loss = make_loss(actor(0.2), critics([1.0, 2.0]), [proposal(-0.5)])
    _, info = loss.qvalue_loss(transitions())
    assert torch.allclose(info["target_value"], torch.tensor(0.9 * 0.2))
    assert (info["next_proposal"] == 0).all()


def test_target_draws_one_subset_of_critics_per_batch():
    # For a = 0.5 the values of critics 0 and 1 are 0.5 and -0.5: K = {0} or {1} for all rows.
    loss = make_loss(actor(0.5), critics([1.0, -1.0]), num_min=1)
    values = set()
    for _ in range(20):
        _, info = loss.qvalue_loss(transitions(32))
        (value,) = info["next_state_value"].unique().tolist()
        values.add(value)
    assert values == {0.5, -0.5}


def test_target_discounts_by_gamma_to_the_number_of_steps():
    loss = make_loss(actor(0.5), critics([1.0]))
    batch = transitions(3, reward=0.0)
    batch["steps_to_next_obs"] = torch.tensor([1, 2, 3])
    _, info = loss.qvalue_loss(batch)
    assert torch.allclose(info["target_value"].flatten(), 0.5 * torch.tensor([0.9, 0.81, 0.729]))


def test_qvalue_loss_and_priority_equal_analytic_values():
    # Terminal with reward 1: y = 1. Q(a = 0.5) = 0.5 and 1.0: errors -0.5 and 0.
    loss = make_loss(actor(0.0), critics([1.0, 2.0]))
    batch = transitions(4, reward=1.0, terminated=True, action=0.5)
    value, info = loss.qvalue_loss(batch)
    assert value.item() == pytest.approx(0.25)  # summed over critics, averaged over the batch
    assert torch.allclose(info["pred_value"], torch.tensor([0.5, 1.0]))
    assert torch.allclose(batch["td_error"], torch.tensor(0.25))  # (0.5 + 0) / 2


def test_importance_weights_apply_to_the_qvalue_loss_only():
    loss = make_loss(actor(0.5), critics([1.0, 2.0]))
    batch = transitions(2, reward=1.0, terminated=True, action=0.5)
    batch["priority_weight"] = torch.tensor([1.0, 3.0])
    plain, _ = loss.actor_loss(batch.exclude("priority_weight"))
    weighted, _ = loss.actor_loss(batch)
    assert weighted.item() == plain.item()
    loss.reduction = "none"
    value, _ = loss.qvalue_loss(batch)
    assert torch.allclose(value, torch.tensor([0.25, 0.75]))
    batch["priority_weight"] = torch.tensor([[1.0], [3.0]])  # a weight a row, not [B, B] of them
    value, _ = loss.qvalue_loss(batch)
    assert torch.allclose(value, torch.tensor([0.25, 0.75]))


def test_bootstrap_from_refuses_a_loss_with_proposals_of_its_own():
    loss = make_loss(actor(0.2), critics([1.0, 2.0]))
    with pytest.raises(TypeError, match="bootstraps from proposals of its own; pass it proposals="):
        bootstrap_from(loss, [proposal(0.5)])


def test_actor_loss_is_minus_the_minimum_over_all_critics():
    # pi = 0.5: Q = 0.5, 1.0, 0.1; num_min has no effect on the actor loss.
    loss = make_loss(actor(0.5), critics([1.0, 2.0, 0.2]), num_min=1)
    value, info = loss.actor_loss(transitions())
    assert value.item() == pytest.approx(-0.1)
    assert torch.allclose(info["actor_value"], torch.tensor(0.1))


@pytest.mark.parametrize(
    ("reduction", "target", "proposal_index"),
    # Q(0.2) = 0.2, -0.2 and Q(0.5) = 0.5, -0.4: minima -0.2 and -0.4, means 0 and 0.05.
    [("min", 0.9 * -0.2, 0), ("mean", 0.9 * 0.05, 1)],
)
def test_target_chooses_and_values_by_its_reduction(reduction, target, proposal_index):
    critic = critics([1.0, -2 / 3], [0.0, -1 / 15])
    loss = make_loss(actor(0.2), critic, [proposal(0.5)], target_reduction=reduction)
    _, info = loss.qvalue_loss(transitions())
    assert torch.allclose(info["target_value"], torch.tensor(target), atol=1e-6)
    assert (info["next_proposal"] == proposal_index).all()


def test_mean_target_is_of_the_drawn_critics_alone():
    # Q_i(0.5) = 0.5, 1 and -1: pairs have the means 0.75, -0.25 and 0.
    loss = make_loss(actor(0.5), critics([1.0, 2.0, -2.0]), num_min=2, target_reduction="mean")
    values = {
        value
        for _ in range(40)
        for value in loss.qvalue_loss(transitions())[1]["next_state_value"].unique().tolist()
    }
    assert values == {0.75, -0.25, 0.0}


def test_mean_actor_loss_has_the_gradient_of_all_critics():
    # pi = 0.5: Q = 0.5, 1.0, 0.1, on average 1.6 / 3; d(mean Q)/da = 3.2 / 3.
    loss = make_loss(actor(0.5), critics([1.0, 2.0, 0.2]), num_min=1, actor_reduction="mean")
    value, info = loss.actor_loss(transitions())
    assert value.item() == pytest.approx(-1.6 / 3)
    assert torch.allclose(info["actor_value"], torch.tensor(1.6 / 3))
    value.backward()
    gradient = loss.actor_network_params["module", "value"].grad.item()
    assert gradient == pytest.approx(-3.2 / 3)


@pytest.mark.parametrize("name", ["target_reduction", "actor_reduction"])
def test_unknown_reduction_is_refused(name):
    with pytest.raises(ValueError, match=rf"^{name} must be one of .*, got 'median'$"):
        make_loss(actor(0.5), critics([1.0]), **{name: "median"})


def test_target_noise_and_actions_are_clipped():
    torch.manual_seed(0)
    loss = make_loss(actor(0.9), critics([1.0]), policy_noise=10.0, noise_clip=0.3)
    _, info = loss.qvalue_loss(transitions(200))
    # 0.9 - 0.3 = 0.6 below, 0.9 + 0.3 clipped to 1 above; Q is the action itself.
    assert info["next_state_value"].min().item() == pytest.approx(0.6)
    assert info["next_state_value"].max().item() == pytest.approx(1.0)


def test_noisy_actor_loss_has_a_straight_through_gradient():
    torch.manual_seed(0)
    network = actor(1.0)
    loss = make_loss(
        network, critics([2.0]), policy_noise=10.0, noise_clip=0.3, noisy_actor_loss=True
    )
    value, info = loss.actor_loss(transitions(200))
    assert info["actor_value"].max().item() == pytest.approx(2.0)  # 2 * clip(1.3)
    value.backward()
    # d(-2 a)/d pi = -2 for every row, including those that were clipped.
    assert loss.actor_network_params["module", "value"].grad.item() == pytest.approx(-2.0)


def test_actor_loss_has_no_noise_by_default():
    loss = make_loss(actor(0.5), critics([1.0]), policy_noise=10.0)
    assert loss.actor_loss(transitions())[0].item() == pytest.approx(-0.5)


def test_soft_bootstrap_samples_by_softmax():
    torch.manual_seed(0)
    size = 40_000
    loss = make_loss(actor(0.0), critics([1.0]), [proposal(0.1)], bootstrap="soft", beta=10.0)
    _, info = loss.qvalue_loss(transitions(size))
    share = torch.softmax(torch.tensor([0.0, 1.0]), 0)[1].item()  # beta * Q = 0 and 1
    assert info["next_proposal"].float().mean().item() == pytest.approx(share, abs=0.0125)


# Gradients, keys, state


def _grads(parameters):
    trained = [p for p in parameters if p.requires_grad]
    return [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in trained]


def test_losses_have_gradients_for_their_parameters_only():
    for method, trained, other in (
        ("qvalue_loss", "qvalue_network_params", "actor_network_params"),
        ("actor_loss", "actor_network_params", "qvalue_network_params"),
    ):
        loss = make_mlp_loss()
        getattr(loss, method)(make_mlp_batch())[0].backward()
        assert all(_grads(getattr(loss, trained).parameters()))
        assert not any(_grads(getattr(loss, other).parameters()))
        for name in ("target_actor_network_params", "target_qvalue_network_params"):
            targets = getattr(loss, name).values(True, True)
            assert not any(target.requires_grad or target.grad is not None for target in targets)
        assert not any(p.requires_grad or p.grad is not None for p in loss.proposals.parameters())


def test_forward_adds_only_the_priority_to_the_batch():
    batch = make_mlp_batch()
    before = batch.clone()
    make_mlp_loss()(batch)
    assert set(batch.keys(True, True)) - set(before.keys(True, True)) == {"td_error"}
    assert (batch.exclude("td_error") == before).all()


def test_trainable_parameters_are_those_of_actor_and_critics():
    loss = make_mlp_loss()
    trainable = {id(p) for p in loss.parameters() if p.requires_grad}
    nets = [loss.actor_network_params, loss.qvalue_network_params]
    assert trainable == {id(p) for net in nets for p in net.parameters() if p.requires_grad}


def test_selectors_share_the_critic_parameters_of_the_loss():
    actor_network, critic, frozen = networks()
    loss = make_loss(actor_network, critic, [frozen], num_min=2)
    acting_selector = IBRLSelector(tied_copy(critic).eval())
    owned = {p.data_ptr() for p in loss.qvalue_network_params.parameters()}
    assert {p.data_ptr() for p in acting_selector.critic.parameters()} == owned
    from_loss = hybrid_policy(loss)[-1]
    assert {p.data_ptr() for p in from_loss.critic.parameters()} == owned
    assert not any("adapter" in name for name in loss.state_dict())
    targets = {p.data_ptr() for p in loss.target_qvalue_network_params.values(True, True)}
    assert not targets & owned


def test_dropout_follows_the_mode_of_the_actor():
    actor_network, critic, frozen = networks()
    loss = make_loss(actor_network, critic, [frozen], num_min=3)
    batch = make_mlp_batch()
    assert loss.actor_loss(batch)[0] != loss.actor_loss(batch)[0]
    tied_copy(actor_network).eval()
    assert loss.actor_loss(batch)[0] != loss.actor_loss(batch)[0]
    actor_network.eval()
    assert loss.actor_loss(batch)[0] == loss.actor_loss(batch)[0]


def test_forward_returns_both_losses():
    loss = make_mlp_loss()
    loss.actor_network.eval()
    batch = make_mlp_batch()
    torch.manual_seed(3)
    out = loss(batch)
    torch.manual_seed(3)
    assert out["loss_actor"] == loss.actor_loss(batch)[0]
    assert out["loss_qvalue"] == loss.qvalue_loss(batch)[0]
    assert set(out.keys()) == set(loss.out_keys)


def test_forward_dispatches_keyword_arguments():
    loss = make_mlp_loss()
    loss.actor_network.eval()
    batch = make_mlp_batch()
    flat = {"_".join(key) if isinstance(key, tuple) else key: batch[key] for key in loss.in_keys}
    torch.manual_seed(3)
    values = loss(**flat)
    torch.manual_seed(3)
    expected = loss(batch)
    assert len(values) == len(loss.out_keys)
    for key, value in zip(loss.out_keys, values, strict=True):
        assert torch.equal(value, expected[key])


@pytest.mark.parametrize("before_estimator", [True, False])
def test_set_keys_renames_inputs_and_outputs(before_estimator):
    loss = IBRLTD3Loss(actor(0.5), critics([1.0]), policy_noise=0.0, num_min=1)
    names = {"reward": "r", "terminated": "end", "done": "over", "action": "a", "priority": "p"}
    if before_estimator:
        loss.set_keys(**names)
    loss.make_value_estimator(gamma=0.9)
    if not before_estimator:
        loss.set_keys(**names)
    batch = transitions(reward=1.0, action=0.5)
    for old, new in (("reward", "r"), ("terminated", "end"), ("done", "over")):
        batch.rename_key_(("next", old), ("next", new))
    batch.rename_key_("action", "a")
    _, info = loss.qvalue_loss(batch)
    assert torch.allclose(info["target_value"], torch.tensor(1 + 0.9 * 0.5))
    assert "p" in batch and ("next", "r") in loss.in_keys and "a" in loss.in_keys
    with pytest.raises(ValueError, match="not an accepted"):
        loss.set_keys(unknown="x")


def test_reduction_applies_to_the_batch():
    batch = transitions(4, reward=1.0, terminated=True, action=0.5)
    for reduction, expected in (("mean", 0.25), ("sum", 1.0), ("none", [0.25] * 4)):
        loss = make_loss(actor(0.0), critics([1.0]), reduction=reduction)
        assert torch.allclose(loss.qvalue_loss(batch)[0], torch.tensor(expected))


def test_state_dict_deepcopy_and_double():
    loss, other = make_mlp_loss(), make_mlp_loss()
    other.load_state_dict(loss.state_dict())
    batch = make_mlp_batch()
    for network in (loss, other):
        network.actor_network.eval()
    copied = copy.deepcopy(loss)
    values = []
    for network in (loss, other, copied):
        torch.manual_seed(0)
        values.append(network.qvalue_loss(batch)[0])
    assert values[0] == values[1] == values[2]
    assert any(name.startswith("_value_estimator.proposals.0.") for name in loss.state_dict())
    double = batch.apply(lambda x: x.double() if x.is_floating_point() else x)
    assert loss.double().qvalue_loss(double)[0].dtype == torch.float64


@pytest.mark.parametrize("updater", [lambda loss: SoftUpdate(loss, tau=0.25), HardUpdate])
def test_torchrl_updaters_update_the_targets(updater):
    loss = make_loss(actor(0.5), critics([1.0]))
    update = updater(loss)
    loss.actor_network_params["module", "value"].data.fill_(0.9)
    if isinstance(update, HardUpdate):
        for _ in range(1001):
            update.step()
        expected = 0.9
    else:
        update.step()
        expected = 0.5 + 0.25 * 0.4
    target = loss.target_actor_network_params["module", "value"]
    assert target.item() == pytest.approx(expected)


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match="distinct keys"):
        IBRLTD3Loss(actor(0.0), critics([1.0]), [proposal(0.0, "rl_action")], num_min=1)
    with pytest.raises(ValueError, match="noise_clip=-1"):
        IBRLTD3Loss(actor(0.0), critics([1.0]), num_min=1, noise_clip=-1)


# Terms and metrics


def test_term_gradients_reach_exactly_the_parameters_of_the_term():
    for name in ("loss_qvalue", "loss_actor"):
        loss = make_mlp_loss()
        term = loss.terms()[name]
        value, _ = term.loss(make_mlp_batch())
        value.backward()
        with_gradient = {id(p) for p in loss.parameters() if p.grad is not None}
        assert with_gradient == {id(p) for p in term.parameters}
        assert all(_grads(term.parameters))


def test_terms_partition_the_trainable_parameters():
    loss = make_mlp_loss()
    in_terms = [id(p) for term in loss.terms().values() for p in term.parameters]
    assert len(in_terms) == len(set(in_terms))
    assert set(in_terms) == {id(p) for p in loss.parameters() if p.requires_grad}


def test_terms_name_targets_and_frequency():
    terms = make_mlp_loss().terms()
    assert {name: (term.targets, term.every_batch) for name, term in terms.items()} == {
        "loss_qvalue": (("qvalue_network",), True),
        "loss_actor": (("actor_network",), False),
    }


def test_metrics_are_the_scalars_of_an_update_in_order():
    loss = make_mlp_loss()
    assert loss.metrics == [
        "loss_qvalue",
        "loss_actor",
        "pred_value",
        "target_value",
        "next_state_value",
        "actor_value",
    ]
    batch, logged = make_mlp_batch(), set()
    for name, term in loss.terms().items():
        _, metrics = term.loss(batch)
        assert not any(value.requires_grad for value in metrics.values())
        logged |= {name, *metrics}
    assert logged - {"next_proposal"} == set(loss.metrics)
