"""Losses that move after policies were made of them: all tensors follow, targets stay targets.

``loss.to(device)`` and ``loss.double()`` take the same way, and the latter needs no GPU.
"""

import pytest
import torch
from support.parts import networks, transitions
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.modules import MLP, ValueOperator
from torchrl.objectives import DDPGLoss, SoftUpdate

from ibrl_torchrl.modules import (
    CriticEnsemble,
    HLGauss,
    IBRLSelector,
    Normalize,
    StateActor,
    StateCriticEnsemble,
    tied_copy,
)
from ibrl_torchrl.objectives import IBRLTD3Loss, PartialSoftUpdate, bootstrap_from, hybrid_policy
from ibrl_torchrl.objectives.adapters import adapter_of

pytestmark = pytest.mark.filterwarnings("ignore")


def ibrl_loss():
    actor, critic, bc = networks(dropout=0.0)
    return IBRLTD3Loss(actor, critic, [bc]).make_value_estimator(gamma=0.99), [bc]


def histogram_loss():
    actor, _, bc = networks(dropout=0.0)
    values = StateCriticEnsemble(Normalize.identity(6), 2, hidden=[8], output=HLGauss())
    critic = CriticEnsemble(values, ["state", "action"])
    return IBRLTD3Loss(actor, critic, [bc]).make_value_estimator(gamma=0.99), [bc]


def ddpg_loss():
    *_, bc = networks(dropout=0.0)
    network = StateActor(Normalize.identity(6), 2, hidden=[8], dropout=0.0)
    actor = TensorDictModule(network, ["state"], ["action"])
    critic = ValueOperator(MLP(8, 1, num_cells=[8]), ["state", "action"])
    loss = DDPGLoss(actor, critic, delay_actor=True, delay_value=True)
    return bootstrap_from(loss, [bc], gamma=0.99), [bc]


def double_batch():
    batch = transitions(5, state_size=6, action_size=2)
    return batch.apply(lambda x: x.double() if x.is_floating_point() else x)


def single(module):
    """Names of the tensors that are still float32."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return [name for name, tensor in tensors if tensor.dtype == torch.float32]


@pytest.mark.parametrize("make", [ibrl_loss, ddpg_loss])
def test_acting_critics_of_targets_move_with_the_loss_and_follow_its_updates(make):
    loss, _ = make()
    acting = adapter_of(loss).acting_critics(target=True)
    assert not any(p.requires_grad for p in acting.parameters())
    targets = SoftUpdate(loss, tau=0.5)
    loss.double()
    assert not single(acting)
    batch = double_batch()
    before = acting(batch.copy())["state_action_value"]
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.add_(0.1)
    assert torch.equal(acting(batch.copy())["state_action_value"], before)
    targets.step()
    assert not torch.equal(acting(batch.copy())["state_action_value"], before)


@pytest.mark.parametrize("make", [ibrl_loss, histogram_loss])
def test_policies_updaters_and_optimisers_made_before_the_move_serve_after_it(make):
    loss, proposals = make()
    actor, critic = loss.actor_network, loss.qvalue_network
    by_hand = TensorDictSequential(tied_copy(actor).eval(), *proposals, IBRLSelector(critic))
    hybrid = hybrid_policy(loss)
    update = PartialSoftUpdate(loss, "qvalue_network", tau=0.5)
    optimizer = torch.optim.Adam(loss.terms()["loss_qvalue"].parameters, lr=0.1)
    loss.double()
    assert not single(loss)
    batch = double_batch()
    for policy in (by_hand, hybrid):
        assert policy(batch.copy())["action"].dtype == torch.float64
        # A copy's statistics follow the observation instead, see `Normalize`.
        assert not [name for name in single(policy) if "normalize" not in name]
    values, _ = loss.qvalue_loss(batch)
    values.backward()
    optimizer.step()
    target = loss.target_qvalue_network_params["module", "mlp", "head", "bias"]
    before = target.clone()
    update.step()
    online = loss.qvalue_network_params["module", "mlp", "head", "bias"]
    assert torch.equal(target, torch.lerp(before, online.detach(), 0.5))
    assert target is loss.target_qvalue_network_params["module", "mlp", "head", "bias"]
