"""Episodes in worker processes: the same as here, whoever plays them and whatever dies."""

import os
import signal
import time
from functools import partial

import pytest
import torch
from support.parts import Constant, Countdown, executing
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.modules import AdditiveGaussianModule

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.evaluation.evaluate import EvaluationJob
from ibrl_torchrl.modules import ExecuteProposal
from ibrl_torchrl.rollouts.episode import LocalRollouts
from ibrl_torchrl.rollouts.processes import RolloutWorkers

LENGTHS = (3, 1, 4, 1, 5, 9)


class Eventful(Countdown):
    """A countdown in which seeds above 100 mean trouble; each step takes a while."""

    def __init__(self, marker, seconds=0.0):
        super().__init__(*LENGTHS)
        self.marker, self.seconds = marker, seconds

    def _step(self, tensordict):
        time.sleep(self.seconds)
        if self.number == 101 and not self.marker.exists():  # the first time only
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.number == 102:
            os._exit(3)
        if self.number == 103:
            raise ValueError("a defect")
        if self.number == 104:
            raise UsageError("no such camera")
        return super()._step(tensordict)


def noisy(value):
    """A policy that explores, its network's weight first among its tensors."""
    noise = AdditiveGaussianModule(Countdown(1).action_spec, sigma_init=0.3, action_key="rl_action")
    network = TensorDictModule(Constant(value), ["state"], ["rl_action"])
    return TensorDictSequential(network, noise, ExecuteProposal("rl_action", 0))


@pytest.fixture(scope="module")
def marker(tmp_path_factory):
    return tmp_path_factory.mktemp("workers") / "died"


@pytest.fixture(scope="module")
def policies():
    return {"explore": noisy(0.2), "bc": executing(1.0, 1)}


@pytest.fixture(scope="module")
def workers(marker, policies):
    workers = RolloutWorkers(partial(Eventful, marker), policies, 2)
    yield workers
    workers.close()


def assert_same(found, expected):
    assert found.batch_size == expected.batch_size
    for key, value in expected.items(True, True):
        assert torch.equal(found[key], value), key


def test_episodes_are_those_that_are_played_here(workers, policies, marker):
    here = LocalRollouts(Eventful(marker), policies)
    seeds = [*range(6), 2, 0]  # by whichever worker, again as before
    for explore in (True, False):
        there = [workers.submit("explore", seed, explore=explore) for seed in seeds]
        for seed, episode in zip(seeds, there, strict=True):
            expected = here.submit("explore", seed, explore=explore).result()
            assert_same(episode.result(), expected)
            noise = expected["action"] - 0.2
            assert bool((noise.abs() > 1e-6).all()) == explore
    first = [here.submit("explore", s, explore=True).result()["action"][0].item() for s in seeds]
    assert len({*first}) == 6


def test_the_weights_are_those_of_the_order_or_of_a_snapshot(workers, policies):
    (weight,) = policies["explore"].parameters()
    before = weight.item()
    snapshot = workers.snapshot()
    ordered = [workers.submit("explore", 0) for _ in range(6)]  # more than there are workers
    with torch.no_grad():
        weight.fill_(0.7)
    now, then = workers.submit("explore", 0), workers.submit("explore", 0, weights=snapshot)
    with torch.no_grad():
        weight.fill_(before)
    for episode, value in [*((each, 0.2) for each in ordered), (now, 0.7), (then, 0.2)]:
        assert episode.result()["action"].unique().tolist() == pytest.approx([value])


def test_an_evaluation_by_workers_is_the_same_and_a_twin_is_played_once(
    workers, policies, marker, monkeypatch
):
    there = EvaluationJob(workers, ["bc", "explore"], range(6))
    results = there.results()
    assert there.is_done()
    here = LocalRollouts(Eventful(marker), policies | {"twin": policies["bc"]})
    assert results == EvaluationJob(here, ["bc", "explore"], range(6)).results()
    played = []
    order = here.order
    monkeypatch.setattr(here, "order", lambda *a, **k: played.append(a) or order(*a, **k))
    twice = EvaluationJob(here, ["bc", "twin"], range(6)).results()
    assert len(played) == 6 and [*twice] == ["bc", "twin"]
    assert twice["bc"] == twice["twin"] == results["bc"]


def test_a_worker_that_dies_is_replaced_and_its_episode_played_again(workers, marker, capsys):
    beside = [workers.submit("bc", seed) for seed in range(4)]
    lost = workers.submit("bc", 101)
    assert len(lost.result()) == LENGTHS[101 % 6] and marker.exists()
    assert "a rollout worker died (exit code -9); its episode is played again" in (
        capsys.readouterr().out
    )
    assert [len(each.result()) for each in beside] == [3, 1, 4, 1]


def test_an_episode_at_which_workers_always_die_is_given_up(workers):
    with pytest.raises(UsageError, match=r"died 3 times \(exit code 3\) at the .* of seed 102"):
        workers.submit("bc", 102).result()
    assert len(workers.submit("bc", 0).result()) == 3


def test_mistakes_and_defects_arrive_where_the_episode_is_awaited(workers):
    with pytest.raises(RuntimeError, match=r"(?s)in a rollout worker.*ValueError: a defect"):
        workers.submit("bc", 103).result()
    with pytest.raises(UsageError, match=r"^no such camera$"):
        workers.submit("bc", 104).result()


def test_collecting_goes_first_and_closing_cancels(policies, marker):
    workers = RolloutWorkers(partial(Eventful, marker, seconds=0.1), policies, 1)
    workers.submit("bc", 0).result()  # the worker is there
    ends = {}

    def watch(name, episode):
        episode.add_done_callback(lambda played: ends.update({name: played.cancelled()}))

    for number in range(3):
        watch(number, workers.submit("bc", 5))
    collected = workers.submit("explore", 1, explore=True)
    watch("collected", collected)
    collected.result()
    workers.close()
    # At most the one that was being played already came first.
    assert [name for name, cancelled in ends.items() if not cancelled] in (
        ["collected"],
        [0, "collected"],
    )
    assert len(ends) == 4
