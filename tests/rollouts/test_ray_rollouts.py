"""RayRollouts on a cluster of two nodes: the same episodes, lost actors and nodes, mistakes."""

import csv
import os
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from support.faulty_env import LENGTHS, FaultyEnv, assert_equal, noisy
from support.killed_runs import SETTINGS
from support.parts import executing
from support.ray_nodes import NODE, ray_nodes

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.rollouts import pool
from ibrl_torchrl.rollouts.episode import LocalRollouts
from ibrl_torchrl.rollouts.ray import RayRollouts

pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def marker(tmp_path_factory):
    return tmp_path_factory.mktemp("actors") / "died"


@pytest.fixture(scope="module")
def policies():
    return {"explore": noisy(0.2), "bc": executing(1.0, 1)}


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        with ray_nodes(2) as nodes:
            yield nodes


@pytest.fixture
def actors(cluster, marker, policies):
    rollouts = RayRollouts(
        partial(FaultyEnv, marker, seconds=0.02), policies, 2, address=cluster.address
    )
    yield rollouts
    rollouts.close()


def started(rollouts):
    return sum(worker.is_started for worker in rollouts._workers)


def wait_until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_actors_run_the_same_episodes_as_local_rollouts(actors, policies, marker):
    local = LocalRollouts(FaultyEnv(marker), policies)
    seeds = [*range(6), 2, 0]  # two of them twice, by any actor
    for explore in (True, False):
        futures = [actors.submit("explore", seed, explore=explore) for seed in seeds]
        for seed, future in zip(seeds, futures, strict=True):
            expected = local.submit("explore", seed, explore=explore).result()
            assert_equal(future.result(), expected)
    episode = actors.submit("explore", 4).result()
    episode["state"].zero_()  # memory of its own, which the learner may write to

    (weight,) = policies["explore"].parameters()
    before, snapshot = weight.item(), actors.snapshot()
    submitted = [actors.submit("explore", 0) for _ in range(4)]  # more than actors
    with torch.no_grad():
        weight.fill_(0.7)
    current, earlier = actors.submit("explore", 0), actors.submit("explore", 0, weights=snapshot)
    plain = actors.submit("explore", 0, weights=[*snapshot])
    with torch.no_grad():
        weight.fill_(before)
    expected = [*((future, 0.2) for future in (*submitted, earlier, plain)), (current, 0.7)]
    for future, value in expected:
        assert future.result()["action"].unique().tolist() == pytest.approx([value])


def test_lost_actors_and_nodes_are_replaced(actors, cluster, policies, marker, capsys):
    interrupted = actors.submit("bc", 101)
    assert len(interrupted.result()) == LENGTHS[101 % 6] and marker.exists()
    assert "; its episode is repeated" in capsys.readouterr().out
    wait_until(lambda: started(actors) == 2)

    local = LocalRollouts(FaultyEnv(marker), policies)
    seeds = range(30)
    futures = [actors.submit("explore", seed, explore=True) for seed in seeds]
    futures[0].result()
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    for seed, future in zip(seeds, futures, strict=True):
        assert_equal(future.result(), local.submit("explore", seed, explore=True).result())
    actors.submit("bc", 0).result()
    wait_until(lambda: started(actors) == 1)

    cluster.add_node(**NODE)
    wait_until(lambda: started(actors) == 2)
    assert len(actors.submit("bc", 2).result()) == 4


def test_futures_raise_errors_of_the_environment(actors):
    with pytest.raises(RuntimeError, match=r"(?s)in a rollout worker.*ValueError: a defect"):
        actors.submit("bc", 103).result()
    with pytest.raises(UsageError, match=r"^no such camera$"):
        actors.submit("bc", 104).result()
    with pytest.raises(UsageError, match=r"died 3 times \(.*\) during the episode of seed 102"):
        actors.submit("bc", 102).result()


def test_episode_that_hangs_raises_and_close_cancels_the_others(
    cluster, marker, policies, monkeypatch
):
    monkeypatch.setattr(pool, "MAX_FAILURES", 1)
    rollouts = RayRollouts(
        partial(FaultyEnv, marker), policies, 1, address=cluster.address, episode_timeout=5.0
    )
    with pytest.raises(UsageError, match="in 5 s, 1 times, the episode of seed 108"):
        rollouts.submit("bc", 108).result(120)
    waiting = rollouts.submit("bc", 108)
    rollouts.close()
    assert waiting.cancelled()


def test_actors_that_cannot_start_are_the_reason(cluster, policies, monkeypatch, tmp_path):
    (tmp_path / "absent_on_nodes.py").write_text("def make_env():\n    ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    from absent_on_nodes import make_env

    rollouts = RayRollouts(make_env, policies, 1, address=cluster.address)
    try:
        with pytest.raises(UsageError, match=r"did not start .* 3 times .*absent_on_nodes"):
            rollouts.submit("bc", 0).result(120)
    finally:
        rollouts.close()


@pytest.mark.simulator
def test_a_run_has_the_numbers_of_one_with_processes(ibrl, cluster, tmp_path, monkeypatch):
    pytest.importorskip("metaworld")
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    settings = ["collector.workers=2", "total_frames=240", "eval.every=120"]
    tables = []
    for backend in ("processes", "ray"):
        run = tmp_path / backend
        code, _, errors = ibrl(
            "train", f"run_dir={run}", *SETTINGS, *settings, f"collector.backend={backend}"
        )
        assert code == 0, errors
        with (run / "train.csv").open() as train, (run / "evaluation.csv").open() as evaluation:
            rows = [*csv.DictReader(train), *csv.DictReader(evaluation)]
        tables.append([{k: v for k, v in row.items() if k != "wall_s"} for row in rows])
    assert tables[0] == tables[1] and len(tables[0]) > 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["collector.workers=0"], "collector.workers=0 must be at least 1 with collector.backend"),
        (["collector.ray.address=127.0.0.1:1"], "collector.ray.address=127.0.0.1:1: no Ray clus"),
        (["collector.ray.address=here"], "ray.address=here must be auto, local or HOST:PORT"),
    ],
)
def test_mistakes_cost_one_line(ibrl, tmp_path, settings, message):
    pytest.importorskip("metaworld")
    code, _, errors = ibrl(
        "train", f"run_dir={tmp_path}/run", *SETTINGS[:-1], "collector.backend=ray", *settings
    )
    assert code == 2 and message in errors and errors.count("\n") == 1
