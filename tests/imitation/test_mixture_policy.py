"""DAgger: schedule, mixture of expert and learner."""

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule

from ibrl_torchrl.imitation.dagger import MixturePolicy, expert_probability


def test_expert_probability_is_a_power_of_the_decay():
    assert [expert_probability(0.5, i) for i in range(4)] == [1.0, 0.5, 0.25, 0.125]
    assert [expert_probability(0.0, i) for i in range(3)] == [1.0, 0.0, 0.0]
    assert [expert_probability(1.0, i) for i in range(3)] == [1.0, 1.0, 1.0]


def mixture(beta, **settings):
    """Expert that answers with the state, learner that answers with its negative."""
    expert = TensorDictModule(lambda state: state, ["state"], ["action"])
    learner = TensorDictModule(lambda state: -state, ["state"], ["action"])
    return MixturePolicy(expert, learner, beta, **settings)


def executed_by_expert(beta, steps):
    policy = mixture(beta)
    results = [policy(TensorDict(state=torch.full((2,), 0.5))) for _ in range(steps)]
    assert all(result["expert_action"].tolist() == [0.5, 0.5] for result in results)
    return [result["action"].tolist() == [0.5, 0.5] for result in results]


def test_mixture_executes_the_expert_with_probability_beta_and_always_labels():
    assert executed_by_expert(1.0, 20) == [True] * 20
    assert executed_by_expert(0.0, 20) == [False] * 20
    torch.manual_seed(3)
    expected = [torch.rand(()).item() < 0.3 for _ in range(200)]
    assert 40 <= sum(expected) <= 80
    torch.manual_seed(3)
    assert executed_by_expert(0.3, 200) == expected


def test_expert_reads_the_newest_of_stacked_states_and_the_learner_all():
    state = torch.tensor([1.0, 2.0, 3.0, 4.0])
    step = mixture(0.0, state_stack=2)(TensorDict(state=state))
    assert step["expert_action"].tolist() == [3.0, 4.0]
    assert step["action"].tolist() == [-1.0, -2.0, -3.0, -4.0]
    assert step["state"] is state  # what the episode keeps


def test_mixture_refuses_a_probability_above_one():
    with pytest.raises(ValueError, match=r"^beta must lie in \[0, 1\], found 1\.5$"):
        mixture(1.5)
