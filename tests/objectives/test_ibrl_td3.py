"""The loss: numbers worked out by hand, and laws every loss of this kind obeys."""

import copy

import pytest
import torch
from support.parts import actor, critics, networks, proposal, transitions
from torch import nn
from torchrl.objectives import HardUpdate, SoftUpdate

from ibrl_torchrl.modules import IBRLSelector, tied_copy
from ibrl_torchrl.objectives import IBRLTD3Loss


def make_loss(actor_network, critic, proposals=(), gamma=0.9, **settings):
    settings = {"policy_noise": 0.0, "num_min": critic.num_critics, **settings}
    loss = IBRLTD3Loss(actor_network, critic, proposals, **settings)
    return loss.make_value_estimator(gamma=gamma)


def real_loss(**settings):
    actor_network, critic, frozen = networks()
    return make_loss(actor_network, critic, [frozen], **{"num_min": 2, **settings})


def real_batch(size=8):
    return transitions(size, state_size=6, action_size=2)


# Formulas


@pytest.mark.parametrize(
    ("outcome", "target"),
    [
        # Q = min(a, 2a): a_RL = 0.2 is worth 0.2, a_IL = 0.5 is worth 0.5. 1 + 0.9 * 0.5 = 1.45.
        ({}, 1.45),
        ({"terminated": True}, 1.0),  # no bootstrap past success
        ({"truncated": True}, 1.45),  # the horizon is not the end of the world
    ],
)
def test_target_by_hand(outcome, target):
    loss = make_loss(actor(0.2), critics([1.0, 2.0]), [proposal(0.5)])
    _, info = loss.qvalue_loss(transitions(reward=1.0, **outcome))
    assert torch.allclose(info["target_value"], torch.tensor(target))
    assert torch.allclose(info["next_state_value"], torch.tensor(0.5))
    assert (info["next_proposal"] == 1).all()


def test_a_worse_proposal_is_not_taken():
    loss = make_loss(actor(0.2), critics([1.0, 2.0]), [proposal(-0.5)])
    _, info = loss.qvalue_loss(transitions())
    assert torch.allclose(info["target_value"], torch.tensor(0.9 * 0.2))
    assert (info["next_proposal"] == 0).all()


def test_one_subset_for_the_whole_batch():
    # For a = 0.5 critic 0 says 0.5 and critic 1 says -0.5: K = {0} or {1}, never mixed.
    loss = make_loss(actor(0.5), critics([1.0, -1.0]), num_min=1)
    seen = set()
    for _ in range(20):
        _, info = loss.qvalue_loss(transitions(32))
        (value,) = info["next_state_value"].unique().tolist()
        seen.add(value)
    assert seen == {0.5, -0.5}


def test_k_steps_discount_k_times():
    loss = make_loss(actor(0.5), critics([1.0]))
    batch = transitions(3, reward=0.0)
    batch["steps_to_next_obs"] = torch.tensor([1, 2, 3])
    _, info = loss.qvalue_loss(batch)
    assert torch.allclose(info["target_value"].flatten(), 0.5 * torch.tensor([0.9, 0.81, 0.729]))


def test_critic_loss_and_priority_by_hand():
    # Terminal with reward 1: y = 1. Q(a = 0.5) = 0.5 and 1.0: errors -0.5 and 0.
    loss = make_loss(actor(0.0), critics([1.0, 2.0]))
    batch = transitions(4, reward=1.0, terminated=True, action=0.5)
    value, info = loss.qvalue_loss(batch)
    assert value.item() == pytest.approx(0.25)  # summed over critics, averaged over the batch
    assert torch.allclose(info["pred_value"], torch.tensor([0.5, 1.0]))
    assert torch.allclose(batch["td_error"], torch.tensor(0.25))  # (0.5 + 0) / 2


def test_importance_weights_reach_the_critic_loss_alone():
    loss = make_loss(actor(0.5), critics([1.0, 2.0]))
    batch = transitions(2, reward=1.0, terminated=True, action=0.5)
    batch["priority_weight"] = torch.tensor([1.0, 3.0])
    plain, _ = loss.actor_loss(batch.exclude("priority_weight"))
    weighted, _ = loss.actor_loss(batch)
    assert weighted.item() == plain.item()
    loss.reduction = "none"
    value, _ = loss.qvalue_loss(batch)
    assert torch.allclose(value, torch.tensor([0.25, 0.75]))


def test_actor_loss_is_minus_the_minimum_over_all_critics():
    # pi = 0.5: Q = 0.5, 1.0, 0.1; the target's subset of one does not matter here.
    loss = make_loss(actor(0.5), critics([1.0, 2.0, 0.2]), num_min=1)
    value, info = loss.actor_loss(transitions())
    assert value.item() == pytest.approx(-0.1)
    assert torch.allclose(info["actor_value"], torch.tensor(0.1))


def test_target_noise_is_clipped_and_actions_stay_in_bounds():
    torch.manual_seed(0)
    loss = make_loss(actor(0.9), critics([1.0]), policy_noise=10.0, noise_clip=0.3)
    _, info = loss.qvalue_loss(transitions(200))
    # 0.9 - 0.3 = 0.6 below, 0.9 + 0.3 clipped to 1 above; Q is the action itself.
    assert info["next_state_value"].min().item() == pytest.approx(0.6)
    assert info["next_state_value"].max().item() == pytest.approx(1.0)


def test_a_noisy_actor_loss_passes_its_gradient_straight_through_the_bounds():
    torch.manual_seed(0)
    network = actor(1.0)
    loss = make_loss(
        network, critics([2.0]), policy_noise=10.0, noise_clip=0.3, noisy_actor_loss=True
    )
    value, info = loss.actor_loss(transitions(200))
    assert info["actor_value"].max().item() == pytest.approx(2.0)  # 2 * clip(1.3)
    value.backward()
    # d(-2 a)/d pi = -2 for every row, also for those beyond the bound.
    assert loss.actor_network_params["module", "value"].grad.item() == pytest.approx(-2.0)


def test_the_papers_actor_loss_has_no_noise():
    loss = make_loss(actor(0.5), critics([1.0]), policy_noise=10.0)
    assert loss.actor_loss(transitions())[0].item() == pytest.approx(-0.5)


def test_soft_bootstrap_samples_the_target():
    torch.manual_seed(0)
    size = 40_000
    loss = make_loss(actor(0.0), critics([1.0]), [proposal(0.1)], bootstrap="soft", beta=10.0)
    _, info = loss.qvalue_loss(transitions(size))
    share = torch.softmax(torch.tensor([0.0, 1.0]), 0)[1].item()  # beta * Q = 0 and 1
    assert info["next_proposal"].float().mean().item() == pytest.approx(share, abs=0.0125)


# Laws


def _grads(parameters):
    return [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in parameters]


def test_each_loss_reaches_its_own_parameters_only():
    for method, own, other in (
        ("qvalue_loss", "qvalue_network_params", "actor_network_params"),
        ("actor_loss", "actor_network_params", "qvalue_network_params"),
    ):
        loss = real_loss()
        getattr(loss, method)(real_batch())[0].backward()
        assert all(_grads(getattr(loss, own).parameters()))
        assert not any(_grads(getattr(loss, other).parameters()))
        for name in ("target_actor_network_params", "target_qvalue_network_params"):
            targets = getattr(loss, name).values(True, True)
            assert not any(target.requires_grad or target.grad is not None for target in targets)
        assert not any(p.requires_grad or p.grad is not None for p in loss.proposals.parameters())


def test_the_batch_is_left_alone_but_for_the_priority():
    batch = real_batch()
    before = batch.clone()
    real_loss()(batch)
    assert set(batch.keys(True, True)) - set(before.keys(True, True)) == {"td_error"}
    assert (batch.exclude("td_error") == before).all()


def test_trainable_are_actor_and_critics():
    loss = real_loss()
    trainable = {id(p) for p in loss.parameters() if p.requires_grad}
    nets = [loss.actor_network_params, loss.qvalue_network_params]
    assert trainable == {id(p) for net in nets for p in net.parameters()}


def test_one_owner_per_parameter():
    actor_network, critic, frozen = networks()
    loss = make_loss(actor_network, critic, [frozen], num_min=2)
    acting = IBRLSelector(tied_copy(critic).eval())
    owned = {p.data_ptr() for p in loss.qvalue_network_params.parameters()}
    assert {p.data_ptr() for p in acting.critic.parameters()} == owned
    assert {p.data_ptr() for p in loss.selector.critic.parameters()} == owned
    names = [name for name in loss.state_dict() if not name.startswith("target_")]
    assert not any("selector" in name for name in names)
    targets = {p.data_ptr() for p in loss.target_qvalue_network_params.values(True, True)}
    assert not targets & owned


def test_dropout_follows_the_actor_that_was_passed():
    actor_network, critic, frozen = networks()
    loss = make_loss(actor_network, critic, [frozen], num_min=3)
    batch = real_batch()
    assert loss.actor_loss(batch)[0] != loss.actor_loss(batch)[0]
    tied_copy(actor_network).eval()
    assert loss.actor_loss(batch)[0] != loss.actor_loss(batch)[0]
    actor_network.eval()
    assert loss.actor_loss(batch)[0] == loss.actor_loss(batch)[0]


def test_forward_joins_both_losses():
    loss = real_loss()
    loss.actor_network.eval()
    batch = real_batch()
    torch.manual_seed(3)
    out = loss(batch)
    torch.manual_seed(3)
    assert out["loss_actor"] == loss.actor_loss(batch)[0]
    assert out["loss_qvalue"] == loss.qvalue_loss(batch)[0]
    assert set(out.keys()) == set(loss.out_keys)


def test_keyword_call_without_a_tensordict():
    loss = real_loss()
    loss.actor_network.eval()
    batch = real_batch()
    flat = {"_".join(key) if isinstance(key, tuple) else key: batch[key] for key in loss.in_keys}
    torch.manual_seed(3)
    values = loss(**flat)
    torch.manual_seed(3)
    expected = loss(batch)
    assert len(values) == len(loss.out_keys)
    for key, value in zip(loss.out_keys, values, strict=True):
        assert torch.equal(value, expected[key])


@pytest.mark.parametrize("early", [True, False])
def test_keys_can_be_renamed(early):
    loss = IBRLTD3Loss(actor(0.5), critics([1.0]), policy_noise=0.0, num_min=1)
    names = {"reward": "r", "terminated": "end", "done": "over", "action": "a", "priority": "p"}
    if early:
        loss.set_keys(**names)
    loss.make_value_estimator(gamma=0.9)
    if not early:
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


def test_reductions():
    batch = transitions(4, reward=1.0, terminated=True, action=0.5)
    for reduction, expected in (("mean", 0.25), ("sum", 1.0), ("none", [0.25] * 4)):
        loss = make_loss(actor(0.0), critics([1.0]), reduction=reduction)
        assert torch.allclose(loss.qvalue_loss(batch)[0], torch.tensor(expected))


def test_state_dict_copies_and_dtypes():
    loss, other = real_loss(), real_loss()
    other.load_state_dict(loss.state_dict())
    batch = real_batch()
    for network in (loss, other):
        network.actor_network.eval()
    copied = copy.deepcopy(loss)
    values = []
    for network in (loss, other, copied):
        torch.manual_seed(0)
        values.append(network.qvalue_loss(batch)[0])
    assert values[0] == values[1] == values[2]
    assert any(name.startswith("proposals.0.") for name in loss.state_dict())
    double = batch.apply(lambda x: x.double() if x.is_floating_point() else x)
    assert loss.double().qvalue_loss(double)[0].dtype == torch.float64


@pytest.mark.parametrize("updater", [lambda loss: SoftUpdate(loss, tau=0.25), HardUpdate])
def test_torchrls_updaters_move_the_targets(updater):
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


def test_arguments_are_refused():
    with pytest.raises(ValueError, match="distinct keys"):
        IBRLTD3Loss(actor(0.0), critics([1.0]), [proposal(0.0, "rl_action")], num_min=1)
    with pytest.raises(ValueError, match="noise_clip=-1"):
        IBRLTD3Loss(actor(0.0), critics([1.0]), num_min=1, noise_clip=-1)


def test_it_is_an_ordinary_module():
    assert isinstance(real_loss(), nn.Module)
    assert real_loss().to("cpu") is not None
