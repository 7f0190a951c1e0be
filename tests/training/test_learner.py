"""Learner: order and number of updates, targets, priorities, metrics, any terms of a loss."""

from itertools import pairwise

import pytest
import torch
from support.parts import actor, critics, episode, proposal, transitions
from tensordict import TensorDict, TensorDictParams
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.objectives import LossModule

from ibrl_torchrl.data.replay import EpisodeToTransitions, episode_buffer
from ibrl_torchrl.objectives import IBRLTD3Loss, LossTerm
from ibrl_torchrl.training.learner import Learner

CPU = torch.device("cpu")
LR, TAU = 0.01, 0.25


class RecordingReplay:
    """Replay that records the weights whenever it is sampled."""

    def __init__(self, loss):
        self.loss = loss
        self.weights, self.batches, self.returned = [], [], []

    def sample(self, batch_size=None):
        self.weights.append(weights(self.loss))
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
    return Learner(
        loss,
        loss.terms(),
        lr=LR,
        tau=TAU,
        critic_updates=critic_updates,
        target_proposals=["rl", "bc"][: 1 + len(proposals)],
    )


@pytest.mark.parametrize("critic_updates", [1, 3])
def test_critics_are_updated_g_times_and_then_the_actor_once(critic_updates):
    torch.manual_seed(0)
    learner = make(critic_updates)
    replay = RecordingReplay(learner.loss)
    learner.round(replay, CPU)
    states = [*replay.weights, weights(learner.loss)]
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


def test_priorities_of_every_batch_are_returned():
    learner = make(3)
    replay = RecordingReplay(learner.loss)
    learner.round(replay, CPU)
    assert len(replay.returned) == 3
    for batch, returned in zip(replay.batches, replay.returned, strict=True):
        assert torch.equal(returned["action"], batch["action"])
        assert (returned["td_error"] >= 0).all()


def test_metrics_by_hand():
    # pi = 0.5 and the proposal is 0.8: with Q = a the target always takes the proposal, and
    # without reward y = 0.9 * 0.8. The actor is evaluated by the critic after its update.
    learner = make(1, [proposal(0.8)])
    replay = RecordingReplay(learner.loss)
    critic_metrics, actor_metrics = learner.round(replay, CPU)
    metrics = critic_metrics | actor_metrics
    action = replay.batches[0]["action"]
    assert metrics["proposal_share/target/bc"] == 1 and metrics["proposal_share/target/rl"] == 0
    assert metrics["target_value"].item() == pytest.approx(0.72)
    assert metrics["next_state_value"].item() == pytest.approx(0.8)
    assert metrics["pred_value"].item() == pytest.approx(action.mean().item(), abs=1e-6)
    assert metrics["loss_qvalue"].item() == pytest.approx((action - 0.72).square().mean().item())
    critic = learner.loss.qvalue_network_params["module"]
    value = 0.5 * critic["weight"].item() + critic["bias"].item()
    assert metrics["actor_value"].item() == pytest.approx(value)
    assert metrics["loss_actor"].item() == pytest.approx(-value)
    assert not any(value.requires_grad for value in metrics.values())
    shares = {"proposal_share/target/rl", "proposal_share/target/bc"}
    assert {*metrics} == {*learner.loss.metrics} | shares


def test_a_prioritized_buffer_receives_its_priorities():
    replay = episode_buffer(50, 8, EpisodeToTransitions(["state"], gamma=0.9), prioritized=True)
    replay.extend(episode(10, success=True))
    learner = make(2)
    before = replay.sampler._sum_tree[torch.arange(10)].clone()
    for _ in range(5):
        learner.round(replay, CPU)
    assert not torch.equal(replay.sampler._sum_tree[torch.arange(10)], before)


def test_the_imitation_policy_is_in_no_optimizer():
    learner = make(1, [proposal(0.8)])
    owned = {
        name: {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, optimizer in learner.optimizers.items()
    }
    loss = learner.loss
    assert owned["loss_qvalue"] == {id(p) for p in loss.qvalue_network_params.parameters()}
    assert owned["loss_actor"] == {id(p) for p in loss.actor_network_params.parameters()}


class ThreeTermLoss(LossModule):
    """Loss of three terms, as SAC's: critic, actor, temperature; no term names the actor target."""

    qvalue_network: TensorDictModule
    qvalue_network_params: TensorDictParams
    target_qvalue_network_params: TensorDictParams
    actor_network: TensorDictModule
    actor_network_params: TensorDictParams
    target_actor_network_params: TensorDictParams

    def __init__(self):
        super().__init__()
        for name in ("qvalue", "actor"):
            network = TensorDictModule(nn.Linear(2, 1), ["state"], [name])
            self.convert_to_functional(network, f"{name}_network", create_target_params=True)
        self.log_alpha = nn.Parameter(torch.tensor(0.0))

    def _network_loss(self, name, batch):
        params = getattr(self, f"{name}_network_params")
        with params.to_module(getattr(self, f"{name}_network")):
            output = getattr(self, f"{name}_network")(batch.select("state"))[name]
        batch.set("td_error", output.detach().abs().squeeze(-1))
        return output.square().mean(), {f"{name}_mean": output.detach()}

    def terms(self):
        def parameters(name):
            return [*getattr(self, f"{name}_network_params").parameters()]

        return {
            "loss_qvalue": LossTerm(
                lambda batch: self._network_loss("qvalue", batch),
                parameters("qvalue"),
                ("qvalue_network",),
                True,
            ),
            "loss_actor": LossTerm(
                lambda batch: self._network_loss("actor", batch), parameters("actor"), (), False
            ),
            "loss_alpha": LossTerm(
                lambda batch: ((self.log_alpha - 1.0).square(), {}), [self.log_alpha], (), False
            ),
        }


def make_three_terms():
    torch.manual_seed(0)
    loss = ThreeTermLoss()
    return Learner(loss, loss.terms(), lr=LR, tau=TAU, critic_updates=2)


class RandomReplay:
    def sample(self, batch_size=None):
        return TensorDict({"state": torch.randn(4, 2)}, [4])

    def update_tensordict_priority(self, batch):
        pass


def test_every_term_of_a_loss_has_an_optimizer_and_moves_the_targets_it_names():
    learner = make_three_terms()
    loss = learner.loss
    before = {key: value.clone() for key, value in loss.state_dict().items() if "device" not in key}
    metrics = learner.round(RandomReplay(), CPU)
    assert [{*update} for update in metrics] == [
        *[{"qvalue_mean", "loss_qvalue"}] * 2,
        {"actor_mean", "loss_actor"},
        {"loss_alpha"},
    ]
    after = loss.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    unnamed = {key for key in before if key.startswith("target_actor_network")}
    assert len(unnamed) == 2 and changed == before.keys() - unnamed
    for key in (("module", "weight"), ("module", "bias")):  # moved by tau, not copied
        assert not torch.equal(
            loss.target_qvalue_network_params[key], loss.qvalue_network_params[key]
        )
    assert loss.log_alpha.item() == pytest.approx(LR, rel=1e-4)
    steps = {
        name: [int(state["step"]) for state in optimizer.state_dict()["state"].values()]
        for name, optimizer in learner.optimizers.items()
    }
    assert steps == {"loss_qvalue": [2, 2], "loss_actor": [1, 1], "loss_alpha": [1]}


def test_a_round_of_critics_only_leaves_out_the_terms_of_the_last_batch():
    learner = make_three_terms()
    metrics = learner.round(RandomReplay(), CPU, critics_only=True)
    assert [{*update} for update in metrics] == [{"qvalue_mean", "loss_qvalue"}] * 2
    assert not learner.optimizers["loss_actor"].state and not learner.optimizers["loss_alpha"].state


def test_a_restored_learner_continues_every_term(tmp_path):
    learner, restored = make_three_terms(), make_three_terms()
    torch.manual_seed(1)
    learner.round(RandomReplay(), CPU)
    state = learner.state_dict()
    torch.save(state, tmp_path / "state.pt")
    restored.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), tmp_path)
    networks_alone = make_three_terms()
    networks_alone.loss.load_state_dict(state["loss"])
    for each in (learner, restored, networks_alone):
        torch.manual_seed(2)
        each.round(RandomReplay(), CPU)
    for name, optimizer in learner.optimizers.items():  # the state of every optimizer matters
        (group,), (other,) = optimizer.param_groups, networks_alone.optimizers[name].param_groups
        assert not any(map(torch.equal, group["params"], other["params"]))
    for key, value in learner.loss.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, restored.loss.state_dict()[key]), key
