"""Training loop: rounds earned by frames, warm-up, metrics, divergence."""

import pytest
import torch
from support.parts import Countdown, executing

from ibrl_torchrl.config.algo import AlgoConfig, WarmupConfig
from ibrl_torchrl.keys import EXPLORE, WARMUP
from ibrl_torchrl.rollouts.collector import EpisodeCollector
from ibrl_torchrl.rollouts.episode import LocalRollouts
from ibrl_torchrl.training.loop import Counters, NotFinite, train
from ibrl_torchrl.training.reinforcement import tested_episodes

POLICIES = {WARMUP: executing(-0.5, 1), EXPLORE: executing(0.5, 0)}


class SequentialEnv(Countdown):
    """Countdown whose episodes have the lengths in turn, whatever the seed."""

    def _set_seed(self, seed):
        pass


class EpisodeList(list):
    """Replay that keeps episodes."""

    extend = list.append


class CountingLearner:
    """Learner whose metrics are the number of the round; records the episodes at each round."""

    def __init__(self, diverges_at=None):
        self.rounds = self.rounds_of_critics = 0
        self.episodes_at = []
        self.diverges_at = diverges_at

    def round(self, replay, device, *, critics_only):
        self.rounds += 1
        self.rounds_of_critics += critics_only
        self.episodes_at.append(len(replay))
        value = float("nan") if self.rounds == self.diverges_at else float(self.rounds)
        return [{"loss_qvalue": torch.tensor(value)}, {"other": torch.tensor(0.0)}]


def run(
    lengths,
    *,
    total_frames=100,
    warmup_episodes=2,
    frames_per_round=2,
    learner=None,
    num_workers=1,
    overlap=False,
    warmup_updates=False,
    actor_after=0,
    proposals=("rl", "bc"),
):
    """Train on episodes of these lengths; returns counters, replay, log and learner."""
    replay, log, counters = EpisodeList(), [], Counters()
    learner = learner or CountingLearner()
    rollouts = LocalRollouts(SequentialEnv(*lengths), POLICIES)
    rollouts.num_workers = num_workers
    train(
        EpisodeCollector(rollouts, seed=1, warmup_episodes=warmup_episodes, overlap=overlap),
        learner,
        replay,
        counters,
        total_frames=total_frames,
        frames_per_round=frames_per_round,
        proposals=proposals,
        device=torch.device("cpu"),
        on_episode=lambda metrics: log.append((counters.frames, counters.rounds, metrics)),
        warmup_updates=warmup_updates,
        actor_after=actor_after,
    )
    return counters, replay, log, learner


@pytest.mark.parametrize("lengths", [(1,), (3,), (1, 7, 2), (25, 4)])
@pytest.mark.parametrize("frames_per_round", [1, 2, 5])
@pytest.mark.parametrize("num_workers", [1, 2, 3, 5])
@pytest.mark.parametrize("overlap", [False, True])
def test_rounds_follow_the_frames_after_the_warmup(lengths, frames_per_round, num_workers, overlap):
    counters, replay, log, learner = run(
        lengths, frames_per_round=frames_per_round, num_workers=num_workers, overlap=overlap
    )
    warmup = sum(len(episode) for episode in replay[:2])
    for frames, rounds, _ in log:
        assert rounds == max(0, frames - warmup) // frames_per_round
    assert learner.rounds == counters.rounds == (counters.frames - warmup) // frames_per_round


@pytest.mark.parametrize("lengths", [(1,), (3,), (25, 4)])
def test_frames_of_the_warmup_may_earn_updates(lengths):
    counters, _, log, learner = run(lengths, warmup_updates=True)
    assert all(rounds == frames // 2 for frames, rounds, _ in log)
    assert learner.rounds == counters.frames // 2
    assert counters.warmup_frames == 0


@pytest.mark.parametrize(("actor_after", "rounds"), [(0, 0), (1, 0), (15, 7), (21, 7), (99, 17)])
def test_critics_learn_alone_before_the_actor(actor_after, rounds):
    # Episodes of 7 frames: 3, 4, 3, 4, 3 rounds after 7, 14, 21, 28, 35 frames.
    counters, _, _, learner = run(
        [7], total_frames=35, warmup_episodes=0, warmup_updates=True, actor_after=actor_after
    )
    assert (counters.frames, learner.rounds) == (35, 17)
    assert learner.rounds_of_critics == rounds


@pytest.mark.parametrize("lengths", [(1,), (1, 7, 2), (25, 4)])
def test_episodes_are_complete_and_start_with_their_first_observation(lengths):
    counters, replay, _, _ = run(lengths)
    for episode in replay:
        number = int(episode["state"][0, 0])
        length = lengths[number % len(lengths)]
        steps = torch.arange(length, dtype=torch.float32)
        assert torch.equal(episode["state"][:, 1], steps)
        assert torch.equal(episode["next", "state"][:, 1], steps + 1)
        assert (episode["state"][:, 0] == number).all()
        assert episode["next", "done"].flatten().tolist() == [False] * (length - 1) + [True]
    assert [int(episode["state"][0, 0]) for episode in replay] == [*range(len(replay))]
    assert counters.episodes == len(replay)
    assert counters.frames == sum(len(episode) for episode in replay)


@pytest.mark.parametrize("warmup_episodes", [0, 1, 3])
def test_the_warmup_policy_acts_in_the_warmup_alone(warmup_episodes):
    _, replay, log, learner = run([4], total_frames=40, warmup_episodes=warmup_episodes)
    proposals = [episode["proposal"].unique().tolist() for episode in replay]
    assert proposals == [[1]] * warmup_episodes + [[0]] * (len(replay) - warmup_episodes)
    assert (replay[-1]["action"] == 0.5).all()
    # Updates start with the first episode after it, which is in the replay by then.
    assert learner.episodes_at[0] == warmup_episodes + 1
    for column, index in (("proposal_share/acting/rl", 0), ("proposal_share/acting/bc", 1)):
        shares = [metrics[column] for *_, metrics in log]
        assert shares == [float(proposal == [index]) for proposal in proposals]


def test_the_budget_ends_with_the_episode_that_reaches_it():
    counters, *_ = run([6], total_frames=20, warmup_episodes=1)
    assert (counters.frames, counters.episodes) == (24, 4)
    in_warmup, _, _, learner = run([6], total_frames=10, warmup_episodes=9)
    assert (in_warmup.frames, in_warmup.episodes, learner.rounds) == (12, 2, 0)


def test_metrics_are_means_over_the_rounds_of_an_episode():
    _, _, log, _ = run([4], total_frames=16, warmup_episodes=1)
    # Two rounds each: (1 + 2) / 2, (3 + 4) / 2, (5 + 6) / 2; none in the warm-up.
    assert [metrics.get("loss_qvalue") for *_, metrics in log] == [None, 1.5, 3.5, 5.5]
    # The policy succeeds (action above 0) after the warm-up only.
    assert [metrics["episode_success"] for *_, metrics in log] == [0, 1, 1, 1]
    means = [metrics["success_last_20_episodes"] for *_, metrics in log]
    assert means == pytest.approx([0, 1 / 2, 2 / 3, 3 / 4])
    assert [metrics["episode_frames"] for *_, metrics in log] == [4, 4, 4, 4]


def test_a_loss_that_is_not_finite_stops_the_run():
    learner = CountingLearner(diverges_at=3)
    message = r"^loss_qvalue became nan in round 3, by frame 12; lower algo.update.lr"
    with pytest.raises(NotFinite, match=message):
        run([4], warmup_episodes=1, learner=learner)


def test_an_observation_that_is_not_finite_never_reaches_the_replay():
    class UnstableEnv(SequentialEnv):
        def _state(self):
            return super()._state() / (self.number < 3 or self.elapsed != 2)

    replay, counters = EpisodeList(), Counters()
    rollouts = LocalRollouts(UnstableEnv(4), POLICIES)
    with pytest.raises(NotFinite, match=r"^state of episode 4 is not finite at step 2; the sim"):
        train(
            EpisodeCollector(rollouts, seed=1, warmup_episodes=1),
            CountingLearner(),
            replay,
            counters,
            total_frames=100,
            frames_per_round=2,
            proposals=["rl", "bc"],
            device=torch.device("cpu"),
            on_episode=lambda metrics: None,
        )
    assert len(replay) == counters.episodes == 3


def test_outcomes_of_episodes_in_which_the_exploration_actor_acted_are_kept():
    counters, *_ = run((3, 2), total_frames=12, proposals=("exploration", "bc"))
    assert len(counters.successes) == 5  # two of them are of the warm-up by bc
    assert counters.exploration_successes == counters.successes[2:]
    counters, *_ = run((3, 2), total_frames=12)
    assert counters.exploration_successes == []


def test_recent_success_is_the_mean_of_the_last_twenty_episodes():
    assert Counters(successes=[True] * 5 + [False] * 15 + [True] * 5).recent_success == 0.25
    assert Counters(successes=[True, False]).recent_success == 0.5
    assert Counters().recent_success == 0


@pytest.mark.parametrize(("share", "tested"), [(1.0, [0, 1, 1, 0, 1]), (0.5, [0, 1, 1])])
def test_episodes_without_exploration_tell_where_there_are_any(share, tested):
    algo = AlgoConfig(exploration_share=share, warmup=WarmupConfig(episodes=2))
    assert tested_episodes([1, 0, 0, 1, 1, 0, 1], algo) == tested
