"""EpisodeCollector: order, parallel and overlapping collection, resuming."""

from concurrent.futures import Future

import pytest
import torch
from tensordict import TensorDict

from ibrl_torchrl.rollouts.collector import EpisodeCollector, episode_seed, explores


class ManualRollouts:
    """Rollouts whose episodes complete on request; an episode holds its seed."""

    def __init__(self, num_workers, *, immediate=False):
        self.num_workers = num_workers
        self.immediate = immediate
        self.requests = []
        self.explore = []
        self.max_steps = []

    def submit(self, policy, seed, *, explore=False, max_steps=None, urgent=False, weights=None):
        assert urgent and weights is None
        self.explore.append(explore)
        self.max_steps.append(max_steps)
        future = Future()
        self.requests.append((policy, seed, future))
        if self.immediate:
            self.complete(len(self.requests) - 1)
        return future

    def complete(self, *indices):
        for index in indices:
            _, seed, future = self.requests[index]
            future.set_result(TensorDict(seed=torch.tensor([seed])))

    @property
    def seeds(self):
        return [seed for _, seed, _ in self.requests]


def seeds(*indices):
    return [episode_seed(7, index) for index in indices]


def next_seeds(collector, count):
    return [next(collector).episode["seed"].item() for _ in range(count)]


def test_collector_without_overlap_submits_one_episode_per_worker_at_once():
    rollouts = ManualRollouts(2, immediate=True)
    collector = EpisodeCollector(rollouts, seed=7, warmup_episodes=3)
    first, second, third = (next(collector) for _ in range(3))
    assert [first.is_warmup, second.is_warmup, third.is_warmup] == [True, True, True]
    # Two with the weights before the first, then two with those before the third.
    assert rollouts.seeds == seeds(0, 1, 2, 3)
    assert [policy for policy, *_ in rollouts.requests] == ["warmup"] * 3 + ["explore"]
    assert not next(collector).is_warmup


def test_collector_with_overlap_submits_an_episode_for_each_one_returned():
    rollouts = ManualRollouts(2, immediate=True)  # and one request more than there are workers
    collector = EpisodeCollector(rollouts, seed=7, warmup_episodes=0, overlap=True)
    for num_returned in range(1, 5):
        next(collector)
        assert rollouts.seeds == seeds(*range(num_returned + 3))


def test_collector_returns_episodes_in_the_order_of_submission():
    rollouts = ManualRollouts(3)
    collector = EpisodeCollector(rollouts, seed=7, warmup_episodes=0)
    wait = Future.result

    def complete_last_first(future):
        if not future.done():
            rollouts.complete(*(i for i in (2, 1, 0) if not rollouts.requests[i][2].done()))
        return wait(future)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Future, "result", complete_last_first)
        assert next_seeds(collector, 3) == seeds(0, 1, 2)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("num_workers", [1, 3])
def test_resumed_collector_returns_the_episodes_in_flight_first(num_workers, overlap):
    settings = {"seed": 7, "warmup_episodes": 2, "overlap": overlap}
    rollouts = ManualRollouts(num_workers, immediate=True)
    collector = EpisodeCollector(rollouts, **settings)
    next_seeds(collector, 4)
    in_flight = collector.in_flight()
    assert len(in_flight) == len(rollouts.requests) - 4
    resumed_rollouts = ManualRollouts(num_workers, immediate=True)
    resumed = EpisodeCollector(resumed_rollouts, **settings, num_completed=4, in_flight=in_flight)
    assert next_seeds(resumed, 9) == next_seeds(collector, 9) == seeds(*range(4, 13))
    assert resumed_rollouts.seeds == rollouts.seeds[4 + len(in_flight) :]


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (1.0, [True] * 6),
        (0.5, [False, True] * 3),
        (2 / 3, [False, True, True] * 2),
        (0.25, [False, False, False, True, False, False]),
        (0.0, [False] * 6),
    ],
)
def test_a_share_of_the_episodes_after_the_warm_up_explores(share, expected):
    rollouts = ManualRollouts(2, immediate=True)
    collector = EpisodeCollector(rollouts, seed=7, warmup_episodes=2, exploration_share=share)
    next_seeds(collector, 8)
    assert rollouts.explore == [True, True, *expected]
    assert [explores(index, share) for index in range(6)] == expected
    assert sum(explores(index, share) for index in range(1200)) == round(1200 * share)


def test_every_training_episode_has_the_same_limit():
    rollouts = ManualRollouts(1, immediate=True)
    collector = EpisodeCollector(rollouts, seed=7, warmup_episodes=1, max_steps=42)
    next_seeds(collector, 3)
    assert rollouts.max_steps == [42, 42, 42]


def test_episode_seeds_of_runs_and_indices_differ():
    values = {episode_seed(seed, index) for seed in range(20) for index in range(500)}
    assert len(values) == 10_000 and min(values) >= 0 and max(values) < 2**32
