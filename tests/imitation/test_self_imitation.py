"""Behaviour cloning that goes on during RL: schedule, weights, data, workers."""

import copy
from functools import partial

import pytest
import torch
from support.parts import Constant, Countdown, critics, transitions
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.objectives import BCLoss

from ibrl_torchrl.builders.replay import build_imitation_buffer
from ibrl_torchrl.config.replay import ReplayConfig
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.imitation.self_imitation import SelfImitation
from ibrl_torchrl.keys import EXPERT_ACTION
from ibrl_torchrl.modules import ExecuteProposal, FrozenPolicy
from ibrl_torchrl.objectives import IBRLTD3Loss
from ibrl_torchrl.rollouts.processes import RolloutWorkers

LR = 0.01


def episode(action=1.0, *, success=True, length=2):
    end = torch.zeros(length, 1, dtype=torch.bool)
    end[-1] = True
    after = {"state": torch.ones(length, 2), "reward": (end & success).float(), "done": end}
    after |= {"terminated": end & success, "truncated": end & (not success)}
    after |= {"success": end & success}
    root = {"state": torch.ones(length, 2), "action": torch.full((length, 1), action)}
    return TensorDict({**root, "next": TensorDict(after, [length])}, [length])


def make_loss(network):
    return BCLoss(TensorDictModule(network, ["state"], ["action"]), loss_function="l2")


def buffer(tmp_path, demo):
    return build_imitation_buffer(ReplayConfig(capacity=100), ["state"], 8, [demo], tmp_path)


@pytest.fixture
def policy():
    """Policy of the constant action 0, frozen."""
    return FrozenPolicy(TensorDictModule(Constant(0.0), ["state"], ["bc_action"]))


def start(policy, tmp_path, demo=None, **settings):
    settings = {"every": 10, "steps": 3, "lr": LR, **settings}
    data = buffer(tmp_path, episode() if demo is None else demo)
    return SelfImitation(policy.policy.module, make_loss, data, **settings), data


def num_steps(training):
    states = training.state_dict()["optimizer"]["state"].values()
    return max((int(state["step"]) for state in states), default=0)


def test_rounds_are_due_at_multiples_of_the_interval_once_there_is_a_success(policy, tmp_path):
    training, _ = start(policy, tmp_path)
    assert training.after_episode(episode(success=False), 30) is None
    assert training.state_dict()["rounds"] == 3  # passed, not made up for later
    assert training.after_episode(episode(), 39) is None and num_steps(training) == 0
    assert training.after_episode(episode(success=False), 40) > 0
    assert num_steps(training) == 3
    assert training.after_episode(episode(), 49) is None
    assert training.after_episode(episode(), 61) > 0  # two rounds
    assert num_steps(training) == 9


def test_adams_first_step_moves_the_frozen_weight_by_the_learning_rate(policy, tmp_path):
    training, _ = start(policy, tmp_path, steps=1)
    weight = policy.policy.module.value
    address = weight.data_ptr()
    assert training.after_episode(episode(), 10) == pytest.approx(1.0)  # (1 - 0) ** 2
    assert weight.item() == pytest.approx(LR)
    assert weight.data_ptr() == address and not weight.requires_grad and not policy.training


def test_losses_propose_with_the_new_weights_and_give_them_no_gradient(policy, tmp_path):
    training, _ = start(policy, tmp_path, steps=50)
    actor = TensorDictModule(Constant(-0.5), ["state"], ["rl_action"])
    loss = IBRLTD3Loss(actor, critics([1.0, 1.0]), [policy]).make_value_estimator(gamma=0.5)
    batch = transitions(reward=0.0)
    before = loss(batch)["target_value"].mean().item()
    assert before == pytest.approx(0.0)  # gamma Q(s', a) of the proposal 0
    training.after_episode(episode(), 10)
    proposed = policy(TensorDict(state=torch.zeros(2)))["bc_action"].item()
    losses = loss(batch)
    assert 0.3 < proposed <= 1.0
    assert losses["target_value"].mean().item() == pytest.approx(0.5 * proposed, rel=1e-5)
    (losses["loss_qvalue"] + losses["loss_actor"]).backward()
    assert policy.policy.module.value.grad is None


def test_data_are_labels_of_demonstrations_and_actions_of_successes(policy, tmp_path):
    demo = episode(0.1).set(EXPERT_ACTION, torch.full((2, 1), 0.7))
    training, data = start(policy, tmp_path, demo)
    training.extend(episode(0.2, success=False))
    training.extend(episode(0.3, length=3))
    assert len(data) == 5
    actions = torch.cat([data.sample()["action"] for _ in range(20)]).unique()
    torch.testing.assert_close(actions, torch.tensor([0.3, 0.7]))


def test_data_of_a_policy_of_chunks_are_chunks(tmp_path):
    demo = episode(length=3).set("action", torch.arange(3.0)[:, None] / 10)
    config = ReplayConfig(capacity=10)
    data = build_imitation_buffer(config, ["state"], 64, [demo], tmp_path, chunk_size=2)
    torch.testing.assert_close(
        data.sample()["action"].unique(dim=0), torch.tensor([[0.0, 0.1], [0.1, 0.2], [0.2, 0.2]])
    )


def test_a_loss_that_is_not_finite_is_refused_and_the_policy_kept(policy, tmp_path):
    training, _ = start(policy, tmp_path)
    with pytest.raises(UsageError, match=r"^lr=0\.01: the imitation loss became nan; lower it$"):
        training.after_episode(episode(float("nan"), length=90), 10)
    assert policy.policy.module.value.item() == 0.0


def test_a_loaded_state_continues_to_the_same_numbers(policy, tmp_path):
    training, _ = start(policy, tmp_path / "a")
    training.after_episode(episode(), 10)
    other = FrozenPolicy(TensorDictModule(Constant(0.0), ["state"], ["bc_action"]))
    resumed, _ = start(other, tmp_path / "b")
    resumed.load_state_dict(copy.deepcopy(training.state_dict()))
    resumed.extend(episode())
    assert torch.equal(other.policy.module.value, policy.policy.module.value)
    losses = []
    for each in (training, resumed):
        torch.manual_seed(0)
        losses.append(each.after_episode(episode(success=False), 20))
    assert losses[0] == losses[1]
    assert torch.equal(other.policy.module.value, policy.policy.module.value)


def test_workers_act_with_the_weights_at_their_request(policy, tmp_path):
    acting = TensorDictSequential(policy, ExecuteProposal("bc_action", 1))
    training, _ = start(policy, tmp_path)
    workers = RolloutWorkers(partial(Countdown, 3), {"bc": acting}, 1)
    try:
        weights = workers.snapshot()
        training.after_episode(episode(), 10)
        current = policy.policy.module.value.item()
        assert current > 0
        old, new = workers.submit("bc", 1, weights=weights), workers.submit("bc", 1)
        assert old.result()["action"].unique().tolist() == [0.0]
        assert new.result()["action"].unique().tolist() == pytest.approx([current])
    finally:
        workers.close()
