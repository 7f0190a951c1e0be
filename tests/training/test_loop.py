"""The loop's accounting, on episodes of known lengths and a learner that only counts."""

import pytest
import torch
from support.parts import Countdown, executing

from ibrl_torchrl.keys import EXPLORE, WARMUP
from ibrl_torchrl.rollouts.collector import EpisodeCollector
from ibrl_torchrl.rollouts.episode import LocalRollouts
from ibrl_torchrl.training.loop import Counters, NotFinite, train

POLICIES = {WARMUP: executing(-0.5, 1), EXPLORE: executing(0.5, 0)}


class InOrder(Countdown):
    """Episodes of the lengths that were asked for, one after the other, whatever the seed."""

    def _set_seed(self, seed):
        pass


class Episodes(list):
    """A replay buffer that only keeps what it was given."""

    extend = list.append


class CountingLearner:
    """Reports the number of the round; knows how many episodes there were at each."""

    def __init__(self, broken_at=None):
        self.rounds = 0
        self.episodes_at = []
        self.broken_at = broken_at

    def round(self, replay, device):
        self.rounds += 1
        self.episodes_at.append(len(replay))
        value = float("nan") if self.rounds == self.broken_at else float(self.rounds)
        return [{"loss_qvalue": torch.tensor(value)}, {"fine": torch.tensor(0.0)}]


def run(
    lengths,
    *,
    frames=100,
    warmup_episodes=2,
    update_every=2,
    learner=None,
    number=1,
    overlap=False,
):
    """Train on episodes of these lengths; returns all that there is to see."""
    replay, seen, progress = Episodes(), [], Counters()
    learner = learner or CountingLearner()
    rollouts = LocalRollouts(InOrder(*lengths), POLICIES)
    rollouts.num_workers = number
    train(
        EpisodeCollector(rollouts, seed=1, warmup_episodes=warmup_episodes, overlap=overlap),
        learner,
        replay,
        progress,
        frames=frames,
        update_every=update_every,
        device=torch.device("cpu"),
        on_episode=lambda report: seen.append((progress.frames, progress.rounds, report)),
    )
    return progress, replay, seen, learner


@pytest.mark.parametrize("lengths", [(1,), (3,), (1, 7, 2), (25, 4)])
@pytest.mark.parametrize("update_every", [1, 2, 5])
@pytest.mark.parametrize("number", [1, 2, 3, 5])
@pytest.mark.parametrize("overlap", [False, True])
def test_rounds_follow_the_learning_frames_however_they_are_played(
    lengths, update_every, number, overlap
):
    progress, replay, seen, learner = run(
        lengths, update_every=update_every, number=number, overlap=overlap
    )
    warmup = sum(len(episode) for episode in replay[:2])
    for frames, rounds, _ in seen:
        assert rounds == max(0, frames - warmup) // update_every
    assert learner.rounds == progress.rounds == (progress.frames - warmup) // update_every


@pytest.mark.parametrize("lengths", [(1,), (1, 7, 2), (25, 4)])
def test_episodes_are_whole_and_begin_with_their_own_first_observation(lengths):
    progress, replay, _, _ = run(lengths)
    for episode in replay:
        number = int(episode["state"][0, 0])
        length = lengths[number % len(lengths)]
        steps = torch.arange(length, dtype=torch.float32)
        assert torch.equal(episode["state"][:, 1], steps)
        assert torch.equal(episode["next", "state"][:, 1], steps + 1)
        assert (episode["state"][:, 0] == number).all()
        assert episode["next", "done"].flatten().tolist() == [False] * (length - 1) + [True]
    assert [int(episode["state"][0, 0]) for episode in replay] == [*range(len(replay))]
    assert progress.episodes == len(replay)
    assert progress.frames == sum(len(episode) for episode in replay)


@pytest.mark.parametrize("warmup_episodes", [0, 1, 3])
def test_the_imitation_policy_alone_plays_the_warmup(warmup_episodes):
    _, replay, seen, learner = run([4], frames=40, warmup_episodes=warmup_episodes)
    sources = [episode["proposal"].unique().tolist() for episode in replay]
    assert sources == [[1]] * warmup_episodes + [[0]] * (len(replay) - warmup_episodes)
    assert (replay[-1]["action"] == 0.5).all()
    # Learning starts with the first episode after it, and that episode is already in the replay.
    assert learner.episodes_at[0] == warmup_episodes + 1
    assert [report["il_share"] for *_, report in seen] == [float(s == [1]) for s in sources]


def test_the_budget_ends_with_the_episode_that_reaches_it():
    progress, *_ = run([6], frames=20, warmup_episodes=1)
    assert (progress.frames, progress.episodes) == (24, 4)
    in_warmup, _, _, learner = run([6], frames=10, warmup_episodes=9)
    assert (in_warmup.frames, in_warmup.episodes, learner.rounds) == (12, 2, 0)


def test_reports_are_means_over_the_rounds_of_an_episode():
    _, _, seen, _ = run([4], frames=16, warmup_episodes=1)
    # Two rounds each: (1 + 2) / 2, (3 + 4) / 2, (5 + 6) / 2; none in the warm-up.
    assert [report.get("loss_qvalue") for *_, report in seen] == [None, 1.5, 3.5, 5.5]
    # The policy succeeds (action above 0) after the warm-up only.
    assert [report["episode_success"] for *_, report in seen] == [0, 1, 1, 1]
    assert [report["episode_frames"] for *_, report in seen] == [4, 4, 4, 4]


def test_a_loss_that_is_not_finite_stops_the_run_and_is_named():
    learner = CountingLearner(broken_at=3)
    message = r"^loss_qvalue became nan in round 3, by frame 12; lower algo.lr"
    with pytest.raises(NotFinite, match=message):
        run([4], warmup_episodes=1, learner=learner)


def test_an_observation_that_is_not_finite_never_reaches_the_replay():
    class Unstable(InOrder):
        def _state(self):
            return super()._state() / (self.number < 3 or self.elapsed != 2)

    replay, progress = Episodes(), Counters()
    collection = EpisodeCollector(LocalRollouts(Unstable(4), POLICIES), seed=1, warmup_episodes=1)
    with pytest.raises(NotFinite, match=r"^state of episode 4 is not finite at step 2; the sim"):
        train(
            collection,
            CountingLearner(),
            replay,
            progress,
            frames=100,
            update_every=2,
            device=torch.device("cpu"),
            on_episode=lambda report: None,
        )
    assert len(replay) == progress.episodes == 3


def test_recent_success_looks_at_the_last_twenty_episodes():
    assert Counters(successes=[True] * 5 + [False] * 15 + [True] * 5).recent_success == 0.25
    assert Counters(successes=[True, False]).recent_success == 0.5
    assert Counters().recent_success == 0
