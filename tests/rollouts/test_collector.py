"""Which episodes come when: in order, with which weights, side by side or ahead."""

from concurrent.futures import Future

import pytest
import torch
from tensordict import TensorDict

from ibrl_torchrl.rollouts.collector import EpisodeCollector, episode_seed


class Orders:
    """Takes orders and plays them when the test says so; an episode tells what was ordered."""

    def __init__(self, number):
        self.number = number
        self.taken = []

    def submit(self, policy, seed, *, explore=False, weights=None):
        assert explore and weights is None
        played = Future()
        self.taken.append((policy, seed, played))
        return played

    def play(self, *numbers):
        for number in numbers:
            _, seed, played = self.taken[number]
            played.set_result(TensorDict(seed=torch.tensor([seed])))


def seeds(*numbers):
    return [episode_seed(7, number) for number in numbers]


def ordered(orders):
    return [seed for _, seed, _ in orders.taken]


def test_without_overlap_all_begin_together_and_none_while_the_learner_learns():
    orders = Orders(2)
    collection = EpisodeCollector(orders, seed=7, warmup_episodes=3)
    orders.taken.clear()
    orders.order = played_at_once(orders)
    first, second, third = (next(collection) for _ in range(3))
    assert [first.is_warmup, second.is_warmup, third.is_warmup] == [True, True, True]
    # Two with the weights before the first, then two with those before the third.
    assert ordered(orders) == seeds(0, 1, 2, 3)
    assert [policy for policy, *_ in orders.taken] == ["warmup"] * 3 + ["explore"]
    assert not next(collection).is_warmup


def played_at_once(orders):
    order = Orders.order

    def play(policy, seed, **settings):
        played = order(orders, policy, seed, **settings)
        orders.play(len(orders.taken) - 1)
        return played

    return play


def test_overlapping_one_begins_for_every_one_taken():
    orders = Orders(2)  # and one more that waits for whoever is idle first
    orders.order = played_at_once(orders)
    collection = EpisodeCollector(orders, seed=7, warmup_episodes=0, overlap=True)
    for taken in range(1, 5):
        next(collection)
        assert ordered(orders) == seeds(*range(taken + 3))


def test_they_are_taken_in_order_whichever_ends_first():
    orders = Orders(3)
    collection = EpisodeCollector(orders, seed=7, warmup_episodes=0)
    wait = Future.result

    def last_first(played):
        if not played.done():
            orders.play(*(i for i in (2, 1, 0) if not orders.taken[i][2].done()))
        return wait(played)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Future, "result", last_first)
        found = [next(collection).episode["seed"].item() for _ in range(3)]
    assert found == seeds(0, 1, 2)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("number", [1, 3])
def test_a_collection_goes_on_as_if_it_had_never_stopped(number, overlap):
    settings = {"seed": 7, "warmup_episodes": 2, "overlap": overlap}

    def following(collection, count):
        return [next(collection).episode["seed"].item() for _ in range(count)]

    def new():
        orders = Orders(number)
        orders.order = played_at_once(orders)
        return orders

    orders = new()
    collection = EpisodeCollector(orders, **settings)
    following(collection, 4)
    ahead = collection.in_flight()
    assert len(ahead) == len(orders.taken) - 4
    resumed_orders = new()
    resumed = EpisodeCollector(resumed_orders, **settings, taken=4, played=ahead)
    assert following(resumed, 9) == following(collection, 9) == seeds(*range(4, 13))
    assert ordered(resumed_orders) == ordered(orders)[4 + len(ahead) :]


def test_seeds_of_runs_and_episodes_differ():
    found = {episode_seed(seed, number) for seed in range(20) for number in range(500)}
    assert len(found) == 10_000 and min(found) >= 0 and max(found) < 2**32
