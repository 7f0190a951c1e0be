"""Fallback policy and its test of success."""

import copy

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule

from ibrl_torchrl.modules import FallbackPolicy, SuccessTest


@pytest.mark.parametrize(
    ("reference", "successes", "passed"),
    [
        (0.5, [], False),
        (0.0, [False, False], False),  # two of three episodes
        (0.0, [False, False, False], True),
        (2 / 3, [True, True, False], True),  # equal rates
        (0.67, [True, True, False], False),
        (1.0, [False, True, True, True], True),  # the last three
        (0.1, [True, True, True, False, False, False], False),  # and no longer the first
    ],
)
def test_recent_episodes_decide(reference, successes, passed):
    test = SuccessTest(episodes=3)
    test.require(reference)
    test.update(successes)
    assert bool(test.is_passed) is passed


def test_nothing_passes_before_the_reference_is_known():
    test = SuccessTest(episodes=2)
    test.update([True, True])
    assert not test.is_passed


def test_a_margin_below_the_reference_is_failed_after_passing_alone():
    test = SuccessTest(episodes=4, margin=0.25)
    test.require(0.5)
    outcomes = [(1, False), (2, True), (1, True), (0, False), (1, False), (2, True)]
    for successes, passed in outcomes:
        test.update([True] * successes + [False] * (4 - successes))
        assert bool(test.is_passed) is passed


def test_other_episodes_are_compared_without_changing_the_result():
    test = SuccessTest(episodes=2, margin=0.5)
    test.require(0.5)
    assert test.is_reached([False, True]) and not test.is_reached([True])
    assert not test.is_reached([False, False]) and test.is_reached([False, False], margin=0.5)
    assert not test.is_passed


def test_no_episodes_and_a_negative_margin_are_refused():
    with pytest.raises(ValueError, match="episodes must be at least 1, got 0"):
        SuccessTest(0)
    with pytest.raises(ValueError, match=r"margin must be at least 0, got -0\.1"):
        SuccessTest(margin=-0.1)


@pytest.fixture
def fallback():
    def policy(value):
        return TensorDictModule(lambda state: torch.full_like(state, value), ["state"], ["action"])

    test = SuccessTest(1)
    test.require(1.0)
    return FallbackPolicy(policy(1.0), policy(0.0), test)


def act(policy):
    return policy(TensorDict(state=torch.zeros(2)))["action"].tolist()


def test_the_decision_is_taken_back(fallback):
    actions = []
    for success in (False, True, False):
        fallback.test.update([success])
        actions.append(act(fallback))
    assert actions == [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]


def test_buffers_carry_the_decision_to_a_copy(fallback):
    """As rollout workers receive it."""
    worker = copy.deepcopy(fallback)
    fallback.test.update([True])
    assert act(worker) == [0.0, 0.0]
    for copied, buffer in zip(worker.buffers(), fallback.buffers(), strict=True):
        copied.copy_(buffer)
    assert act(worker) == [1.0, 1.0]


def test_inputs_are_those_of_both():
    rl = TensorDictModule(torch.clone, ["state"], ["action"])
    bc = TensorDictModule(torch.clone, ["proprio"], ["action"])
    assert FallbackPolicy(rl, bc, SuccessTest()).in_keys == ["state", "proprio"]
