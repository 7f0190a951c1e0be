"""Evaluation: initial states, statistics, independence of the global random state."""

import math

import pytest
import torch
from support.parts import Countdown, candidates, critics, executing
from tensordict import TensorDict
from tensordict.nn import TensorDictSequential
from torchrl.modules import AdditiveGaussianModule

from ibrl_torchrl.evaluation.evaluate import (
    EpisodeOutcome,
    Evaluation,
    EvaluationJob,
    evaluate,
    summarize_episode,
    wilson_interval,
)
from ibrl_torchrl.modules import IBRLSelector
from ibrl_torchrl.rollouts.episode import LocalRollouts
from ibrl_torchrl.runs.tables import eval_columns

PROPOSALS = ("rl", "bc")


def outcome(frames, success, bc_frames=0):
    counts = {"rl": frames - bc_frames, "bc": bc_frames}
    return EpisodeOutcome(seed=0, success=success, frames=frames, proposal_frames=counts)


def test_wilson_interval_values():
    # 8 of 10, z^2 = 3.8415: centre 0.8 + 3.8415 / 20 = 0.99207,
    # spread 1.95996 sqrt(0.016 + 3.8415 / 400) = 0.31361, both over 1 + 0.38415.
    assert wilson_interval(8, 10) == pytest.approx((0.49016, 0.94332), abs=1e-5)
    # At the edges the near end is the edge and the far one z^2 / (n + z^2) away from it.
    assert wilson_interval(0, 10) == pytest.approx((0, 3.8415 / 13.8415), abs=1e-5)
    assert wilson_interval(10, 10) == pytest.approx((10 / 13.8415, 1), abs=1e-5)


def test_evaluation_statistics():
    result = Evaluation((outcome(10, True, 3), outcome(30, False, 5), outcome(20, True, 1)))
    assert result.success_rate == pytest.approx(2 / 3)
    assert result.success_length == 15  # (10 + 20) / 2, of successful episodes only
    # Shares are fractions of frames, not means over episodes.
    assert result.proposal_shares == pytest.approx({"rl": 51 / 60, "bc": 9 / 60})
    assert result.interval == wilson_interval(2, 3)
    assert math.isnan(Evaluation((outcome(30, False),)).success_length)


def test_evaluation_row_has_the_columns_of_the_table():
    row = Evaluation((outcome(10, True, 3), outcome(30, False, 5))).row()
    assert ["frames", "wall_s", "policy", *row] == eval_columns(PROPOSALS)
    assert row["proposal_share/acting/bc"] == pytest.approx(8 / 40)


def test_summarize_episode_counts_frames_by_proposal_index():
    flags = torch.zeros(5, 1, dtype=torch.bool)
    steps = TensorDict(next=TensorDict(success=flags, batch_size=[5]), batch_size=[5])
    names = ("rl", "bc", "diffusion")
    assert summarize_episode(3, steps, names).proposal_frames == dict.fromkeys(names, 0)
    steps["proposal"] = torch.tensor([2, 0, 2, 2, 1])
    assert summarize_episode(3, steps, names).proposal_frames == {"rl": 1, "bc": 1, "diffusion": 3}


def test_evaluate_runs_each_start_state_once():
    env = Countdown(3, 1, 4, 1, 5)
    result = evaluate(env, executing(1.0, 1), [4, 0, 1], PROPOSALS)
    assert [(e.seed, e.frames) for e in result.episodes] == [(4, 5), (0, 3), (1, 1)]
    assert all(e.success and e.proposal_frames["bc"] == e.frames for e in result.episodes)
    failing = evaluate(env, executing(-1.0, 0), [4, 0, 1], PROPOSALS)
    assert failing.success_rate == 0 and failing.proposal_shares == {"rl": 1, "bc": 0}
    assert [e.frames for e in failing.episodes] == [5, 3, 1]


def test_evaluate_without_proposal_key_counts_no_frames():
    policy = executing(1.0, 1)[0].select_out_keys("bc_action")
    policy = TensorDictSequential(policy, lambda td: td.rename_key_("bc_action", "action"))
    assert evaluate(Countdown(3), policy, [0], PROPOSALS).proposal_shares == {"rl": 0, "bc": 0}
    assert evaluate(Countdown(3), policy, [0]).proposal_shares == {}


def test_evaluation_job_equals_evaluate_and_runs_a_shared_module_once():
    policy = executing(1.0, 1)
    calls = []
    counted = TensorDictSequential(policy, lambda td: calls.append(1) or td)
    rollouts = LocalRollouts(Countdown(3, 1, 4), {"hybrid": counted, "bc": counted})
    job = EvaluationJob(rollouts, ["hybrid", "bc"], range(3), PROPOSALS)
    assert job.is_done()
    expected = evaluate(Countdown(3, 1, 4), policy, range(3), PROPOSALS)
    assert job.results() == {"hybrid": expected, "bc": expected}
    assert len(calls) == 3 + 1 + 4


def test_evaluate_is_deterministic_and_keeps_the_global_random_state():
    env = Countdown(6)
    noise = AdditiveGaussianModule(env.action_spec, sigma_init=9.0, action_key="rl_action")
    actions = []

    def record(td):
        torch.rand(1)  # draws of a policy do not reach the global random state either
        actions.append(td["action"].item())
        return td

    critic = critics([1.0, -1.0])  # the minimum over both is -|a|: the smaller action wins
    selector = IBRLSelector(critic, mode="soft", beta=0.0, num_min=1)
    policy = TensorDictSequential(
        executing(0.5, 0)[0], noise, executing(-0.25, 1)[0], selector, record
    )
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = evaluate(env, policy, range(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert set(actions) == {-0.25}
    assert evaluate(env, policy, range(3)) == first
    explored = policy(candidates(0.0))["rl_action"].item()
    assert explored != 0.5  # outside of evaluate the same policy explores


@pytest.mark.simulator
def test_evaluate_metaworld_expert_repeats_its_episodes():
    pytest.importorskip("metaworld")
    from ibrl_torchrl.envs import MetaWorldEnv
    from ibrl_torchrl.experts import scripted_expert

    env = MetaWorldEnv("box-close", seed=0)
    expert = scripted_expert("metaworld", "box-close")
    result = evaluate(env, expert, [100, 101])
    assert result.success_rate == 1
    assert 20 < result.success_length < 100
    env.rollout(5)  # another episode in between
    assert evaluate(env, expert, [101, 100]).episodes == result.episodes[::-1]
