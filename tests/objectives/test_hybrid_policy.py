"""``hybrid_policy`` in TorchRL's collectors, batched environments and Trainer."""

from functools import partial

import pytest
import torch
from support.parts import Constant, Countdown, actor, critics, proposal, transitions
from support.torchrl_losses import GAMMA, MAKERS, critic
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import nn
from torchrl.collectors import Collector, MultiAsyncCollector, MultiSyncCollector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import ParallelEnv, SerialEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import AdditiveGaussianModule
from torchrl.objectives import SoftUpdate
from torchrl.trainers import ReplayBufferTrainer, Trainer

from ibrl_torchrl import (
    AgreementGate,
    CriticEnsemble,
    IBRLTD3Loss,
    bootstrap_from,
    hybrid_policy,
)


def sac_with_proposal():
    """SAC whose critics prefer the proposal's 0.9 to the actor's 0.5."""
    return bootstrap_from(MAKERS["sac"]([critic(1.0), critic(1.0)]), [proposal(0.9)], gamma=GAMMA)


def reverse_critics(loss):
    """Let the critics prefer the actor's action."""
    loss.qvalue_network_params["module", "weight"].data.neg_()


def chosen(batch):
    return {*batch["proposal"].flatten().tolist()}


def test_collector_sees_updates_of_the_loss_at_once():
    loss = sac_with_proposal()
    collector = Collector(
        Countdown(5),
        hybrid_policy(loss),
        frames_per_batch=10,
        total_frames=30,
        auto_register_policy_transforms=True,
    )
    batches = iter(collector)
    assert chosen(next(batches)) == {1}
    reverse_critics(loss)
    assert chosen(next(batches)) == {0}
    collector.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [MultiSyncCollector, MultiAsyncCollector])
@pytest.mark.parametrize("make", [sac_with_proposal, "ibrl"])
def test_processes_choose_by_weights_that_are_sent(kind, make):
    if make == "ibrl":
        loss = IBRLTD3Loss(actor(0.5), critics([1.0, 1.0]), [proposal(0.9)])
    else:
        loss = make()
    policy = hybrid_policy(loss)
    collector = kind(
        [partial(Countdown, 5)] * 2,
        policy,
        frames_per_batch=10,
        total_frames=200,
        auto_register_policy_transforms=True,
    )
    try:
        batches = iter(collector)
        assert chosen(next(batches)) == {1}
        reverse_critics(loss)
        collector.update_policy_weights_(policy)
        later = [chosen(next(batches)) for _ in range(4)][-1]
        assert later == {0}
    finally:
        collector.shutdown()


@pytest.mark.parametrize("kind", [SerialEnv, pytest.param(ParallelEnv, marks=pytest.mark.slow)])
def test_batched_environments(kind):
    env = kind(2, partial(Countdown, 5))
    steps = env.rollout(3, hybrid_policy(sac_with_proposal()))
    assert steps.shape == (2, 3) and chosen(steps) == {1}
    assert steps["proposal_values"].shape == (2, 3, 2)
    env.close()


def test_noise_is_on_the_actors_proposal_alone():
    loss = IBRLTD3Loss(actor(0.5), critics([1.0, 1.0]), [proposal(-0.9)])
    noise = AdditiveGaussianModule(
        Countdown(5).action_spec, sigma_init=0.1, sigma_end=0.1, action_key="rl_action"
    )
    policy = hybrid_policy(loss, noise=noise)
    env = Countdown(50)
    with set_exploration_type(ExplorationType.RANDOM):
        noisy = env.rollout(50, policy)
    assert noisy["action"].unique().numel() > 40 and chosen(noisy) == {0}
    assert noisy["bc_action"].unique().numel() == 1
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        assert env.rollout(50, policy)["action"].unique().tolist() == [0.5]


def test_loss_without_proposals_names_the_remedy():
    loss = MAKERS["sac"]([critic(1.0), critic(1.0)])
    with pytest.raises(ValueError, match="pass them, or call bootstrap_from first"):
        hybrid_policy(loss)


def test_trainer_of_torchrl_trains_sac_with_proposals():
    torch.manual_seed(0)
    loss = sac_with_proposal()
    before = loss.qvalue_network_params.clone()
    collector = Collector(
        Countdown(5, 7),
        hybrid_policy(loss),
        frames_per_batch=12,
        total_frames=120,
        auto_register_policy_transforms=True,
    )
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(200), batch_size=16)
    built = Trainer(
        collector=collector,
        total_frames=120,
        frame_skip=1,
        optim_steps_per_batch=4,
        loss_module=loss,
        optimizer=torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], 1e-2),
        target_net_updater=SoftUpdate(loss, tau=0.1),
        progress_bar=False,
    )
    hook = ReplayBufferTrainer(buffer, batch_size=16, flatten_tensordicts=True)
    hook.register(built)
    built.train()
    assert built.collected_frames >= 120
    after = loss.qvalue_network_params
    assert all(not torch.equal(after[key], before[key]) for key in [("module", "weight")])
    assert loss.value_estimator.next_proposal.shape == (16,)


def test_policy_of_several_trained_proposals_keeps_their_keys():
    both = TensorDictSequential(actor(0.1), TensorDictModule(Constant(0.7), ["state"], ["edit"]))
    loss = IBRLTD3Loss(both, critics([1.0, 1.0]), [proposal(0.3)], actor_keys=["rl_action", "edit"])
    td = hybrid_policy(loss)(transitions(3).select("state"))
    assert td["proposal"].tolist() == [1] * 3
    assert td["proposal_values"][0].tolist() == pytest.approx([0.1, 0.7, 0.3])
    # Critics that disagree, and a gate: neither trained proposal may win.
    loss = IBRLTD3Loss(
        both,
        critics([1.0, -1.0], [0.0, 2.0]),
        [proposal(0.3)],
        actor_keys=["rl_action", "edit"],
    )
    td = hybrid_policy(loss, gate=AgreementGate())(transitions(3).select("state"))
    assert td["proposal"].tolist() == [2] * 3


def test_policy_from_pixels_encodes_before_it_acts():
    class Encode(nn.Module):
        def forward(self, image):
            return image.float().mean((-1, -2, -3))[..., None]

    encoder = TensorDictModule(Encode(), ["image"], ["features"])
    rl = TensorDictModule(nn.Linear(1, 1), ["features"], ["rl_action"])

    class OnFeatures(nn.Module):
        num_critics = 2

        def forward(self, features, action, members=None):
            return (action - features).abs().neg().expand(*action.shape[:-1], 2)

    critic_network = CriticEnsemble(OnFeatures(), ["features", "action"])
    loss = IBRLTD3Loss(rl, critic_network, encoder=encoder)
    td = TensorDict(image=torch.ones(2, 3, 4, 4, dtype=torch.uint8), batch_size=[2])
    assert hybrid_policy(loss)(td)["action"].shape == (2, 1)


def test_gate_of_quantile_critics_compares_their_means():
    quantiles = [critic(1.0, (0.0, 0.2, 0.4)), critic(-1.0, (2.0, 2.2, 2.4))]
    loss = bootstrap_from(MAKERS["tqc"](quantiles), [proposal(0.3)], gamma=GAMMA)
    states = transitions(3).select("state")
    assert hybrid_policy(loss, gate=AgreementGate())(states.clone())["proposal"].tolist() == [1] * 3
    gated = hybrid_policy(loss, gate=AgreementGate(0.5), num_min=1)(states)
    assert gated["proposal_values"].shape == (3, 2)
