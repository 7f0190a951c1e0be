"""One round: how many updates, in which order, and how far the targets move."""

from itertools import pairwise

import pytest
import torch
from support.parts import actor, critics, episode, proposal, transitions

from ibrl_torchrl.data.replay import EpisodeToTransitions, episode_buffer
from ibrl_torchrl.objectives import IBRLTD3Loss
from ibrl_torchrl.training.learner import Learner

CPU = torch.device("cpu")
LR, TAU = 0.01, 0.25


class Watch:
    """A replay buffer that notes the weights each time it is asked for a batch."""

    def __init__(self, loss):
        self.loss = loss
        self.seen, self.batches, self.returned = [], [], []

    def sample(self):
        self.seen.append(weights(self.loss))
        self.batches.append(transitions(8))
        return self.batches[-1]

    def update_tensordict_priority(self, batch):
        self.returned.append(batch)


def weights(loss):
    """Online and target weight of a critic and of the actor."""
    return {
        "critic": loss.qvalue_network_params["module", "weight"].item(),
        "target_critic": loss.target_qvalue_network_params["module", "weight"].item(),
        "actor": loss.actor_network_params["module", "value"].item(),
        "target_actor": loss.target_actor_network_params["module", "value"].item(),
    }


def make(critic_updates, proposals=()):
    loss = IBRLTD3Loss(actor(0.5), critics([1.0]), proposals, num_min=1, policy_noise=0.0)
    loss.make_value_estimator(gamma=0.9)
    return Learner(loss, lr=LR, tau=TAU, critic_updates=critic_updates)


@pytest.mark.parametrize("critic_updates", [1, 3])
def test_critics_update_g_times_and_then_the_actor_once(critic_updates):
    torch.manual_seed(0)
    learner = make(critic_updates)
    watch = Watch(learner.loss)
    learner.round(watch, CPU)
    states = [*watch.seen, weights(learner.loss)]
    assert len(states) == critic_updates + 1
    for old, new in pairwise(states):
        assert new["critic"] != old["critic"]
        moved = TAU * (new["critic"] - old["target_critic"])
        assert new["target_critic"] - old["target_critic"] == pytest.approx(moved, rel=1e-4)
    # Q = w a with w > 0: the actor's first Adam step is +lr, and its target follows by tau.
    assert {state["actor"] for state in states[:-1]} == {0.5}
    assert {state["target_actor"] for state in states[:-1]} == {0.5}
    assert states[-1]["actor"] == pytest.approx(0.5 + LR, abs=1e-6)
    assert states[-1]["target_actor"] == pytest.approx(0.5 + TAU * LR, abs=1e-6)


def test_priorities_of_every_batch_go_back():
    learner = make(3)
    watch = Watch(learner.loss)
    learner.round(watch, CPU)
    assert len(watch.returned) == 3
    for given, returned in zip(watch.batches, watch.returned, strict=True):
        assert torch.equal(returned["action"], given["action"])
        assert (returned["td_error"] >= 0).all()


def test_the_report_by_hand():
    # pi = 0.5 and the proposal says 0.8: with Q = a the target always takes the proposal, and
    # without reward y = 0.9 * 0.8. The actor is judged by the critic after its update.
    learner = make(1, [proposal(0.8)])
    watch = Watch(learner.loss)
    critics, actor = learner.round(watch, CPU)
    report = critics | actor
    action = watch.batches[0]["action"]
    assert report["bootstrap_il_share"] == 1
    assert report["target_mean"].item() == pytest.approx(0.72)
    assert report["q_mean"].item() == pytest.approx(action.mean().item(), abs=1e-6)
    assert report["loss_qvalue"].item() == pytest.approx((action - 0.72).square().mean().item())
    critic = learner.loss.qvalue_network_params["module"]
    value = 0.5 * critic["weight"].item() + critic["bias"].item()
    assert report["actor_value"].item() == pytest.approx(value)
    assert report["loss_actor"].item() == pytest.approx(-value)
    assert not any(entry.requires_grad for entry in report.values())


def test_a_prioritised_buffer_learns_its_priorities():
    replay = episode_buffer(50, 8, EpisodeToTransitions(["state"], gamma=0.9), prioritized=True)
    replay.extend(episode(10, success=True))
    learner = make(2)
    before = replay.sampler._sum_tree[torch.arange(10)].clone()
    for _ in range(5):
        learner.round(replay, CPU)
    assert not torch.equal(replay.sampler._sum_tree[torch.arange(10)], before)


def test_the_imitation_policy_is_in_no_optimiser():
    learner = make(1, [proposal(0.8)])
    optimisers = [learner.critic_optimizer, learner.actor_optimizer]
    owned = [{id(p) for g in o.param_groups for p in g["params"]} for o in optimisers]
    assert owned[0] == {id(p) for p in learner.loss.qvalue_network_params.parameters()}
    assert owned[1] == {id(p) for p in learner.loss.actor_network_params.parameters()}
