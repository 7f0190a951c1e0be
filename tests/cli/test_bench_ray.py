"""A grid on a Ray cluster: a lost node, Ctrl-C, unshared folders, mistakes."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.killed_runs import SETTINGS
from support.ray_nodes import NODE, ray_nodes

from ibrl_torchrl.cli.launchers import ray as launcher
from ibrl_torchrl.cli.launchers.base import Sweep
from ibrl_torchrl.cli.launchers.ray import run_program
from ibrl_torchrl.cluster import ray_cluster
from ibrl_torchrl.config.ray import RayRunsConfig
from ibrl_torchrl.runs.folder import is_finished, is_locked, lock_folder

pytest.importorskip("metaworld")
pytest.importorskip("ray")
pytestmark = [pytest.mark.simulator, pytest.mark.slow]

TASK, *RUN = SETTINGS
PROGRAM = [sys.executable, "-m", "ibrl_torchrl"]


def grid(folder, *settings):
    ray = ["launcher=ray", "ray.cpus=1"]
    return ["bench", "algos=td3", TASK.replace("task", "tasks"), f"dir={folder}", *ray, *settings]


def start(folder, address, *settings):
    """Start a grid in a process of its own."""
    arguments = grid(folder, "seeds=1,2", f"ray.address={address}", "--", *RUN, *settings)
    return subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(process, condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def rows(run, name="train.csv"):
    """Rows of a table without times."""
    with (run / name).open() as file:
        return [{k: v for k, v in row.items() if k != "wall_s"} for row in csv.DictReader(file)]


def test_a_lost_node_costs_its_run_what_came_after_the_last_checkpoint(tmp_path):
    runs = [tmp_path / f"metaworld-handle-press/td3-seed{seed}" for seed in (1, 2)]
    with ray_nodes(2) as cluster:
        process = start(tmp_path, cluster.address, "total_frames=3000")
        wait_for(process, lambda: all((run / "checkpoint.pt").exists() for run in runs))
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        cluster.add_node(**NODE)
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert all(map(is_finished, runs)) and (tmp_path / "report/index.html").is_file()
    resumed = [run for run in runs if "resumed" in json.loads((run / "run.json").read_text())]
    assert len(resumed) == 1, output
    assert output.count("lost with its node; it resumes") == 1 and str(resumed[0]) in output

    (lost,) = resumed
    shared = tmp_path / f"metaworld-handle-press/shared/seed{lost.name[-1]}"
    whole = tmp_path / "whole"
    inputs = [f"demos.path={shared}/demos.hdf5", f"imitation.bc.path={shared}/imitation/bc.pt"]
    settings = [*SETTINGS, "algo=td3", f"seed={lost.name[-1]}", "total_frames=3000", *inputs]
    subprocess.run([*PROGRAM, "train", f"run_dir={whole}", *settings], check=True)
    for table in ("train.csv", "eval.csv", "evaluation.csv"):
        assert rows(lost, table) == rows(whole, table)


def test_ctrl_c_stops_runs_after_a_checkpoint(tmp_path):
    run = tmp_path / "metaworld-handle-press/td3-seed1"
    process = start(tmp_path, "local", "total_frames=99999")
    wait_for(process, (run / "checkpoint.pt").exists)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert not is_finished(run) and not is_locked(run)
    assert "stopped; resume with: ibrl train resume=" in (run / "log.txt").read_text()


def test_a_folder_that_a_node_does_not_share_is_named(tmp_path):
    folder = tmp_path / "run"
    outcome = run_program(["--version"], tmp_path, tmp_path / "bench.log", folder)
    assert outcome.failure.endswith(
        f"has no {tmp_path}/bench.log; choose a dir= that all nodes share"
    )
    assert outcome.output == ""


def test_a_run_waits_until_a_lost_node_has_released_its_folder(tmp_path):
    (tmp_path / "bench.log").touch()
    with ExitStack() as lock:
        lock.enter_context(lock_folder(tmp_path / "run"))
        threading.Timer(1.5, lock.close).start()
        begin = time.monotonic()
        outcome = run_program(["--version"], tmp_path, tmp_path / "bench.log", tmp_path / "run")
    assert time.monotonic() - begin > 1.5
    assert outcome.failure is None and outcome.output.startswith("ibrl_torchrl ")


def lose_worker(arguments, cwd, log, folder):
    """Task that ends its worker, as a lost node does."""
    with (folder / "attempts").open("a") as file:
        file.write("1")
    os._exit(1)


def lack_program(arguments, cwd, log, folder):
    """Task on a node where the program is not installed."""
    raise ModuleNotFoundError("No module named 'ibrl_torchrl'")


@pytest.mark.parametrize(
    ("task", "attempts", "reason"),
    [
        (lose_worker, "11", "lost with its node more than ray.retries=1 times"),
        (lack_program, None, "Ray: ModuleNotFoundError: No module named 'ibrl_torchrl'"),
    ],
)
def test_the_loss_of_a_run_is_told_once_retries_are_spent(
    tmp_path, monkeypatch, task, attempts, reason
):
    monkeypatch.setattr(launcher, "run_program", task)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    (tmp_path / "run").mkdir()
    config = RayRunsConfig(address="local", cpus=1, retries=1)
    with ray_cluster("local", cpus=1, gpus=0) as ray:
        sweep = launcher.RayLauncher(ray, config).start(
            Sweep("train", [], {tmp_path / "run": {}}), tmp_path / "bench.log"
        )
        while not sweep.is_done():
            time.sleep(0.1)
        (failure,) = sweep.failures()
    assert failure.startswith(reason)
    assert "run" in (tmp_path / "bench.log").read_text()
    if attempts is not None:
        assert (tmp_path / "run/attempts").read_text() == attempts


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["ray.address=127.0.0.1:1"], "ray.address=127.0.0.1:1: no Ray cluster there"),
        (["ray.address=auto"], "ray.address=auto: no Ray cluster there"),
        (["ray.address=ray://head:10001"], "must be auto, local or HOST:PORT"),
        (["ray.gpus=1.5"], "ray.gpus=1.5 must be a whole number or less than 1"),
        (["ray.address=local", "ray.cpus=4096"], "no node of the Ray cluster has as many, the lar"),
        (["--", "hydra.launcher.n_jobs=2"], "is for launchers of Hydra, launcher=ray has ray.cpus"),
    ],
)
def test_mistakes_are_answered_before_anything_runs(ibrl, tmp_path, monkeypatch, settings, message):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    code, _, errors = ibrl(*grid(tmp_path / "grid", *settings))
    assert code == 2 and message in errors and errors.count("\n") == 1
    assert not (tmp_path / "grid").exists()


def test_a_local_cluster_that_does_not_start_costs_one_line(ibrl, tmp_path, monkeypatch):
    def init(**options):
        raise Exception("The current node timed out during startup.")  # as Ray does

    monkeypatch.setattr("ray.init", init)
    code, _, errors = ibrl(*grid(tmp_path / "grid", "ray.address=local"))
    assert code == 2 and errors.count("\n") == 1
    assert "ray.address=local: Ray did not start (The current node timed out" in errors


def test_ray_that_is_not_installed_is_an_extra(ibrl, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, errors = ibrl(*grid(tmp_path / "grid"))
    assert code == 2 and "pip install 'ibrl_torchrl[ray]'" in errors
    assert not (tmp_path / "grid").exists()
