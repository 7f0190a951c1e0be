"""Parts on a device: losses that move, policies of TensorDicts without a device, transforms."""

import pytest
import torch
from support.parts import episode, networks, transitions
from support.torchrl_losses import MAKERS, critic
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn
from torchrl.envs import Compose
from torchrl.objectives import SoftUpdate

from ibrl_torchrl.data.replay import ChunkActions, EpisodeToTransitions
from ibrl_torchrl.episodes import action_chunks
from ibrl_torchrl.modules import (
    AgreementGate,
    ChunkExecutor,
    ChunkPrefix,
    FrozenPolicy,
    IBRLSelector,
    SampledProposals,
    tied_copy,
)
from ibrl_torchrl.modules.augment import RandomShift
from ibrl_torchrl.objectives import IBRLTD3Loss, bootstrap_from, hybrid_policy
from ibrl_torchrl.objectives.adapters import adapter_of

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]


def moved(batch, device):
    """The batch on a device, without a device of its own, as users often build them."""
    batch = batch.to(device)
    batch.clear_device_()
    assert batch.device is None
    return batch


def test_a_loss_moves_after_construction_with_all_that_was_made_of_it(device):
    actor, critics, bc = networks(dropout=0.0)
    loss = IBRLTD3Loss(actor, critics, [bc], policy_noise=0.0, num_min=3)
    loss.make_value_estimator(gamma=0.99)
    batch = transitions(5, state_size=6, action_size=2)
    targets = SoftUpdate(loss, tau=0.5)
    by_hand = TensorDictSequential(tied_copy(actor).eval(), bc, IBRLSelector(critics, num_min=3))
    acting = {"by hand": by_hand, "hybrid": hybrid_policy(loss, num_min=3)}
    scorer = adapter_of(loss).acting_critics(target=True)
    with torch.no_grad():
        expected_loss = loss(batch.copy())
        expected = {name: policy(batch.copy())["action"] for name, policy in acting.items()}
        expected_values = scorer(batch.copy())["state_action_value"]

    loss.to(device)
    assert {t.device for t in [*loss.parameters(), *loss.buffers()]} == {device}
    there = moved(batch.copy(), device)
    for name, policy in acting.items():
        torch.testing.assert_close(policy(there.copy())["action"].cpu(), expected[name])
    torch.testing.assert_close(scorer(there.copy())["state_action_value"].cpu(), expected_values)
    losses = loss(there)
    for name in ("loss_qvalue", "loss_actor"):
        torch.testing.assert_close(losses[name].cpu(), expected_loss[name])
    (losses["loss_qvalue"] + losses["loss_actor"]).backward()
    targets.step()


@pytest.mark.parametrize("name", MAKERS)
def test_losses_of_torchrl_with_proposals_and_their_policies(name, device):
    bc = FrozenPolicy(TensorDictModule(nn.Linear(2, 1), ["state"], ["bc_action"]))
    nn.init.zeros_(bc.policy.module.weight)
    quantiles = [0.0, 0.1] if name == "tqc" else [0.0]
    critics = [critic(weight, quantiles) for weight in ([1.0] if name == "ddpg" else [1.0, 2.0])]
    loss = bootstrap_from(MAKERS[name](critics), [bc], gamma=0.9)
    policy = hybrid_policy(loss)
    loss.to(device)
    batch = moved(transitions(4, action=0.1), device)
    output = loss(batch)
    assert {value.device for value in output.values()} == {device}
    assert loss.value_estimator.next_proposal.device == device
    assert loss.value_estimator.estimator.gamma.device == device
    assert policy(batch)["proposal"].device == device


@pytest.mark.parametrize("mode", ["greedy", "soft", "epsilon"])
@pytest.mark.parametrize("gate", [None, AgreementGate(0.5)])
def test_selector_of_sets(mode, gate, device):
    actor, critics, bc = networks(dropout=0.0)
    selector = IBRLSelector(critics, mode=mode, gate=gate)
    policy = TensorDictSequential(actor, SampledProposals(bc, 3, noise_std=0.1), selector)
    policy.to(device)
    output = policy(moved(TensorDict(state=torch.randn(5, 6), batch_size=[5]), device))
    for key in ("action", "proposal", "chosen_value", "proposal_values"):
        assert output[key].device == device
    assert output["action"].shape == (5, 2)


def test_chunks_of_tensordicts_without_a_device(device):
    plan = TensorDictModule(lambda x: x + torch.arange(3.0, device=x.device), ["x"], ["action"])
    policy = ChunkExecutor(plan, 3, replan=2)
    td = moved(TensorDict(x=torch.zeros(2, 1), batch_size=[2]), device)
    actions = []
    for x, new in ((0.0, [False, False]), (10.0, [False, True]), (20.0, [False, False])):
        td = policy(td.set("x", torch.full((2, 1), x, device=device)))
        td.set("is_init", torch.tensor([[flag] for flag in new], device=device))
        actions.append(td["action"].flatten().cpu().tolist())
    assert actions == [[0.0, 0.0], [1.0, 1.0], [20.0, 20.0]]
    assert td["chunk_step"].device == td["action_chunk"].device == device
    prefix = ChunkPrefix(TensorDictModule(lambda x: x.repeat(1, 4), ["x"], ["bc_action"]), 2)
    assert prefix(td)["bc_action"].shape == (2, 2)


def test_action_chunks_and_transitions_of_an_episode_on_the_device(device):
    actions = torch.arange(3.0)[:, None]
    assert torch.equal(action_chunks(actions.to(device), 2).cpu(), action_chunks(actions, 2))
    transform = Compose(EpisodeToTransitions(["state"], n_steps=4), ChunkActions(2))
    here = transform.inv(episode(5, success=True))
    there = transform.inv(episode(5, success=True).to(device))
    assert there.device == device
    assert (here == there.cpu()).all()


def test_random_shift(device):
    images = torch.randint(256, (4, 3, 12, 12), dtype=torch.uint8).to(device)
    shifted = RandomShift(2).train()(images)
    assert shifted.device == device and shifted.shape == images.shape
