"""Evaluation: named start states, each played once, and figures by hand."""

import math

import pytest
import torch
from support.parts import Countdown, candidates, critics, executing
from tensordict.nn import TensorDictSequential
from torchrl.modules import AdditiveGaussianModule

from ibrl_torchrl.evaluation.evaluate import EpisodeOutcome, Evaluation, evaluate, wilson_interval
from ibrl_torchrl.modules import IBRLSelector


def outcome(frames, success, il_frames=0):
    return EpisodeOutcome(seed=0, success=success, frames=frames, il_frames=il_frames)


def test_wilson_interval_by_hand():
    # 8 of 10, z^2 = 3.8415: centre 0.8 + 3.8415 / 20 = 0.99207,
    # spread 1.95996 sqrt(0.016 + 3.8415 / 400) = 0.31361, both over 1 + 0.38415.
    assert wilson_interval(8, 10) == pytest.approx((0.49016, 0.94332), abs=1e-5)
    # At the edges the near end is the edge and the far one z^2 / (n + z^2) away from it.
    assert wilson_interval(0, 10) == pytest.approx((0, 3.8415 / 13.8415), abs=1e-5)
    assert wilson_interval(10, 10) == pytest.approx((10 / 13.8415, 1), abs=1e-5)


def test_figures_by_hand():
    result = Evaluation((outcome(10, True, 3), outcome(30, False, 5), outcome(20, True, 1)))
    assert result.success_rate == pytest.approx(2 / 3)
    assert result.success_length == 15  # (10 + 20) / 2: failures have no length of success
    assert result.il_share == pytest.approx(9 / 60)  # of frames, not of episodes
    assert result.interval == wilson_interval(2, 3)
    assert math.isnan(Evaluation((outcome(30, False),)).success_length)


def test_every_start_state_is_played_exactly_once():
    env = Countdown(3, 1, 4, 1, 5)
    result = evaluate(env, executing(1.0, 1), [4, 0, 1])
    assert [(e.seed, e.frames) for e in result.episodes] == [(4, 5), (0, 3), (1, 1)]
    assert all(e.success and e.il_frames == e.frames for e in result.episodes)
    failing = evaluate(env, executing(-1.0, 0), [4, 0, 1])
    assert failing.success_rate == 0 and failing.il_share == 0
    assert [e.frames for e in failing.episodes] == [5, 3, 1]


def test_a_policy_without_proposals_has_no_share_of_them():
    policy = executing(1.0, 1)[0].select_out_keys("bc_action")
    policy = TensorDictSequential(policy, lambda td: td.rename_key_("bc_action", "action"))
    assert evaluate(Countdown(3), policy, [0]).il_share == 0


def test_nothing_explores_and_the_random_state_stays():
    env = Countdown(6)
    noise = AdditiveGaussianModule(env.action_spec, sigma_init=9.0, action_key="rl_action")
    actions = []

    def watched(td):
        torch.rand(1)  # even what a policy draws all the same is forgotten
        actions.append(td["action"].item())
        return td

    critic = critics([1.0, -1.0])  # the minimum over both is -|a|: the smaller action wins
    chooser = IBRLSelector(critic, mode="soft", beta=0.0, num_min=1)
    policy = TensorDictSequential(
        executing(0.5, 0)[0], noise, executing(-0.25, 1)[0], chooser, watched
    )
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = evaluate(env, policy, range(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert set(actions) == {-0.25}
    assert evaluate(env, policy, range(3)) == first
    explored = policy(candidates(0.0))["rl_action"].item()
    assert explored != 0.5  # outside of evaluate the same policy does explore


def test_metaworlds_expert_solves_the_same_start_states_again():
    pytest.importorskip("metaworld")
    from ibrl_torchrl.envs import MetaWorldEnv
    from ibrl_torchrl.experts import scripted_expert

    env = MetaWorldEnv("box-close", seed=0)
    expert = scripted_expert("metaworld", "box-close")
    result = evaluate(env, expert, [100, 101])
    assert result.success_rate == 1
    assert 20 < result.success_length < 100
    env.rollout(5)  # whatever happens in between
    assert evaluate(env, expert, [101, 100]).episodes == result.episodes[::-1]
