"""RolloutWorkers: the same episodes as in this process, deaths, errors, priorities."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from support.faulty_env import LENGTHS, FaultyEnv, assert_equal, noisy
from support.parts import executing

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.evaluation.evaluate import EvaluationJob
from ibrl_torchrl.rollouts import pool
from ibrl_torchrl.rollouts.episode import LocalRollouts
from ibrl_torchrl.rollouts.processes import RolloutWorkers


@pytest.fixture(scope="module")
def marker(tmp_path_factory):
    return tmp_path_factory.mktemp("workers") / "died"


@pytest.fixture(scope="module")
def policies():
    return {"explore": noisy(0.2), "bc": executing(1.0, 1)}


@pytest.fixture(scope="module")
def workers(marker, policies):
    workers = RolloutWorkers(partial(FaultyEnv, marker), policies, 2)
    yield workers
    workers.close()


def test_workers_run_the_same_episodes_as_local_rollouts(workers, policies, marker):
    local = LocalRollouts(FaultyEnv(marker), policies)
    seeds = [*range(6), 2, 0]  # two of them twice, by any worker
    for explore in (True, False):
        futures = [workers.submit("explore", seed, explore=explore) for seed in seeds]
        for seed, future in zip(seeds, futures, strict=True):
            expected = local.submit("explore", seed, explore=explore).result()
            assert_equal(future.result(), expected)
            noise = expected["action"] - 0.2
            assert bool((noise.abs() > 1e-6).all()) == explore
    first = [local.submit("explore", s, explore=True).result()["action"][0].item() for s in seeds]
    assert len({*first}) == 6


def test_max_steps_truncates_an_episode_and_leaves_its_start_as_it_is(workers, policies, marker):
    local = LocalRollouts(FaultyEnv(marker), policies)
    whole = local.submit("explore", 2, explore=True).result()
    length = len(whole)
    for rollouts in (local, workers):
        cut = rollouts.submit("explore", 2, explore=True, max_steps=length - 1).result()
        assert_equal(cut.exclude("next"), whole[:-1].exclude("next"))
        last = cut["next"][-1]
        assert bool(last["done"]) and bool(last["truncated"]) and not bool(last["terminated"])
        assert not cut["next", "done"][:-1].any()
        later = rollouts.submit("explore", 2, explore=True, max_steps=length).result()
        assert_equal(later, whole)


def test_requests_after_the_end_of_the_dispatcher_fail_at_once(policies, tmp_path, monkeypatch):
    workers = RolloutWorkers(partial(FaultyEnv, tmp_path / "died"), policies, 1)
    try:
        workers.submit("bc", 0).result()

        def fail(worker):
            raise UsageError("no worker starts")

        monkeypatch.setattr(workers, "_receive", fail)
        for _ in range(2):
            with pytest.raises(UsageError, match="no worker starts"):
                workers.submit("bc", 0).result(timeout=60)
    finally:
        workers.close()


def test_workers_use_the_weights_of_the_submission_or_of_a_snapshot(workers, policies):
    (weight,) = policies["explore"].parameters()
    before = weight.item()
    snapshot = workers.snapshot()
    submitted = [workers.submit("explore", 0) for _ in range(6)]  # more than workers
    with torch.no_grad():
        weight.fill_(0.7)
    current, earlier = workers.submit("explore", 0), workers.submit("explore", 0, weights=snapshot)
    with torch.no_grad():
        weight.fill_(before)
    expected = [*((future, 0.2) for future in submitted), (current, 0.7), (earlier, 0.2)]
    for future, value in expected:
        assert future.result()["action"].unique().tolist() == pytest.approx([value])


def test_evaluation_job_by_workers_equals_local_and_runs_aliases_once(
    workers, policies, marker, monkeypatch
):
    names = ["rl", "bc"]
    job = EvaluationJob(workers, ["bc", "explore"], range(6), names)
    results = job.results()
    assert job.is_done()
    local = LocalRollouts(FaultyEnv(marker), policies | {"alias": policies["bc"]})
    assert results == EvaluationJob(local, ["bc", "explore"], range(6), names).results()
    requests = []
    submit = local.submit
    monkeypatch.setattr(local, "submit", lambda *a, **k: requests.append(a) or submit(*a, **k))
    both = EvaluationJob(local, ["bc", "alias"], range(6), names).results()
    assert len(requests) == 6 and [*both] == ["bc", "alias"]
    assert both["bc"] == both["alias"] == results["bc"]


def test_dead_worker_is_restarted_and_its_episode_repeated(workers, marker, capsys):
    others = [workers.submit("bc", seed) for seed in range(4)]
    interrupted = workers.submit("bc", 101)
    assert len(interrupted.result()) == LENGTHS[101 % 6] and marker.exists()
    assert "a rollout worker died (exit code -9); its episode is repeated" in (
        capsys.readouterr().out
    )
    assert [len(future.result()) for future in others] == [3, 1, 4, 1]


def test_episode_that_kills_three_workers_raises(workers):
    with pytest.raises(UsageError, match=r"died 3 times \(exit code 3\) during the .* of seed 102"):
        workers.submit("bc", 102).result()
    assert len(workers.submit("bc", 0).result()) == 3


def test_future_raises_errors_of_the_environment(workers):
    with pytest.raises(RuntimeError, match=r"(?s)in a rollout worker.*ValueError: a defect"):
        workers.submit("bc", 103).result()
    with pytest.raises(UsageError, match=r"^no such camera$"):
        workers.submit("bc", 104).result()


def test_simulator_that_raises_once_costs_its_episode_not_the_run(
    workers, policies, marker, capsys
):
    assert len(workers.submit("bc", 105).result()) == LENGTHS[105 % 6]
    out = capsys.readouterr().out
    assert "raised ValueError: a rare defect; its episode is repeated" in out
    marker.with_name("raised").unlink()
    local = LocalRollouts(FaultyEnv(marker), policies)
    assert len(local.submit("bc", 105).result()) == LENGTHS[105 % 6]
    assert "a rare defect; its episode is repeated" in capsys.readouterr().out
    with pytest.raises(ValueError, match="a defect"):
        local.submit("bc", 103)


def test_hung_worker_is_replaced_and_its_episode_repeated(policies, marker, capsys):
    workers = RolloutWorkers(partial(FaultyEnv, marker), policies, 1, episode_timeout=300.0)
    try:
        interrupted = workers.submit("bc", 106)
        (worker,) = workers._workers
        _wait_for_state(worker._process.pid, "T")
        worker._deadline = time.monotonic()
        assert len(interrupted.result(120)) == LENGTHS[106 % 6]
        out = capsys.readouterr().out
        assert "a rollout worker did not finish its episode in 300 s; its episode is repea" in out
    finally:
        workers.close()


def test_episode_that_always_hangs_raises(policies, marker, monkeypatch):
    monkeypatch.setattr(pool, "MAX_FAILURES", 1)
    workers = RolloutWorkers(partial(FaultyEnv, marker), policies, 1, episode_timeout=2.0)
    try:
        with pytest.raises(UsageError, match="in 2 s, 1 times, the episode of seed 107"):
            workers.submit("bc", 107).result(120)
    finally:
        workers.close()


def test_close_kills_a_stopped_worker(policies, marker):
    workers = RolloutWorkers(partial(FaultyEnv, marker), policies, 1)
    future = workers.submit("bc", 107)
    process = workers._workers[0]._process
    _wait_for_state(process.pid, "T")
    start = time.monotonic()
    workers.close()
    assert time.monotonic() - start < 20 and future.cancelled() and not process.is_alive()


PARENT = """
import time
from functools import partial
from pathlib import Path
from support.faulty_env import FaultyEnv
from support.parts import executing
from ibrl_torchrl.rollouts.processes import RolloutWorkers
if __name__ == "__main__":
    workers = RolloutWorkers(partial(FaultyEnv, Path("nowhere")), {"bc": executing(1.0, 1)}, 1)
    workers.submit("bc", 0).result()
    future = workers.submit("bc", 107)  # stops itself
    print(workers._workers[0]._process.pid, flush=True)
    time.sleep(600)
"""


def test_workers_die_with_their_parent_even_if_they_hang(tmp_path):
    program = tmp_path / "parent.py"
    program.write_text(PARENT)
    paths = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    parent = subprocess.Popen(
        [sys.executable, program],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    worker = int(parent.stdout.readline())
    _wait_for_state(worker, "T")
    parent.kill()
    parent.wait()
    _wait_for_state(worker, None, "Z")


def _wait_for_state(process: int, *states: str | None) -> None:
    deadline = time.monotonic() + 60
    while (state := _state(process)) not in states:
        assert time.monotonic() < deadline, state
        time.sleep(0.05)


def _state(process: int) -> str | None:
    """State of a process, such as T for stopped; None once it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def test_urgent_requests_run_first_and_close_cancels_the_others(policies, marker):
    workers = RolloutWorkers(partial(FaultyEnv, marker, seconds=0.1), policies, 1)
    workers.submit("bc", 0).result()  # wait until the worker has started
    cancelled = {}

    def watch(name, future):
        future.add_done_callback(lambda done: cancelled.update({name: done.cancelled()}))

    for number in range(3):
        watch(number, workers.submit("bc", 5))
    collected = workers.submit("explore", 1, urgent=True)
    watch("collected", collected)
    collected.result()
    workers.close()
    # At most the one that ran already completed first.
    assert [name for name, is_cancelled in cancelled.items() if not is_cancelled] in (
        ["collected"],
        [0, "collected"],
    )
    assert len(cancelled) == 4
