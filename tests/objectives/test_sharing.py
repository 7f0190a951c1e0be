"""IBRLTD3Loss after copies, casts and restored weights: no stale references to parameters."""

import copy

import pytest
import torch
from support.parts import actor, critics, networks, transitions

from ibrl_torchrl.modules import IBRLSelector, tied_copy
from ibrl_torchrl.objectives import IBRLTD3Loss


def evaluated_loss():
    """A loss that was evaluated once, with pi = 0.5 and Q = a: the actor loss is -0.5."""
    loss = IBRLTD3Loss(actor(0.5), critics([1.0]), num_min=1, policy_noise=0.0)
    assert actor_loss(loss) == -0.5
    return loss


def actor_loss(loss):
    batch = transitions()
    if loss.qvalue_network_params["module", "weight"].dtype == torch.float64:
        batch = batch.apply(lambda x: x.double() if x.is_floating_point() else x)
    return loss.actor_loss(batch)[0].item()


def set_critic(loss, value):
    loss.qvalue_network_params["module", "weight"].data.fill_(value)


def test_actor_loss_follows_updates_of_the_critics():
    loss = evaluated_loss()
    set_critic(loss, 3.0)
    assert actor_loss(loss) == -1.5


def test_deepcopy_after_use_has_separate_critics():
    loss = evaluated_loss()
    copied = copy.deepcopy(loss)
    set_critic(copied, 3.0)
    assert (actor_loss(loss), actor_loss(copied)) == (-0.5, -1.5)


def test_dtype_can_change_after_use():
    loss = evaluated_loss().double()
    set_critic(loss, 3.0)
    assert actor_loss(loss) == -1.5


@pytest.mark.parametrize("assign", [False, True])
def test_state_dict_can_be_loaded_after_use(assign):
    other = evaluated_loss()
    set_critic(other, 3.0)
    loss = evaluated_loss()
    loss.load_state_dict(other.state_dict(), assign=assign)
    assert actor_loss(loss) == -1.5
    set_critic(loss, 5.0)
    assert actor_loss(loss) == -2.5


def test_tied_copies_follow_optimizer_steps_and_load_state_dict():
    actor_network, critic, frozen = networks()
    loss = IBRLTD3Loss(actor_network, critic, [frozen]).make_value_estimator(gamma=0.9)
    acting_actor, selector = tied_copy(actor_network), IBRLSelector(tied_copy(critic))

    def shared():
        pairs = [(acting_actor, "actor_network"), (selector.critic, "qvalue_network")]
        return all(
            {p.data_ptr() for p in module.parameters()}
            == {p.data_ptr() for p in getattr(loss, f"{name}_params").parameters()}
            for module, name in pairs
        )

    optimizer = torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], fused=True)
    losses = loss(transitions(state_size=6, action_size=2))
    (losses["loss_actor"] + losses["loss_qvalue"]).backward()
    optimizer.step()
    assert shared()
    state = {key: value.clone() + 1 for key, value in loss.state_dict().items()}
    loss.load_state_dict(state)
    assert shared()
    assert torch.equal(
        next(acting_actor.parameters()), next(loss.actor_network_params.parameters())
    )


def test_state_dict_has_no_tensor_twice():
    actor_network, critic, frozen = networks()
    state = IBRLTD3Loss(actor_network, critic, [frozen]).state_dict()
    parameters = {key: value for key, value in state.items() if "normalize" not in key}
    pointers = [value.data_ptr() for value in parameters.values() if value.is_floating_point()]
    assert len(set(pointers)) == len(pointers)
