"""Sweeps: results for sweepers, folders of trials, reasons of dead processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from ibrl_torchrl.cli.sweep import exit_reason, killed_process

TINY = [
    *("total_frames=160", "demos.episodes=1", "imitation.bc.steps=10", "algo.warmup.episodes=1"),
    *("task.horizon=80", "algo.update.frames_per_round=20", "eval.every=1000"),
    *("eval.final_episodes=2", "collector.workers=0"),
]
PROGRAM = [sys.executable, "-m", "ibrl_torchrl"]


def test_a_signal_is_the_reason_before_anything_in_the_log():
    log = ["error: seed: Value 'one'", "error: a process of the sweep was killed (SIGSEGV); rest"]
    assert exit_reason(-signal.SIGKILL, log) == (
        "its process was killed by SIGKILL, often by the system when memory is short"
    )
    assert exit_reason(-signal.SIGTERM, []) == "its process was killed by SIGTERM"
    assert exit_reason(2, log) == "a process of the sweep was killed (SIGSEGV)"
    assert exit_reason(2, log[:1]) is None and exit_reason(0, []) is None


def test_a_killed_worker_of_joblib_is_named_by_its_signal():
    class TerminatedWorkerError(Exception):
        """loky's, by its name: joblib is an extra."""

    error = killed_process(TerminatedWorkerError("... killed. Exit codes: {SIGKILL(-9)}"))
    assert str(error).startswith("a process of the sweep was killed (SIGKILL, often by the system")
    assert killed_process(ValueError("SIGKILL")) is None


def _children(process):
    """Ids of the children of a process, with their command lines."""
    try:
        ids = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return {int(each): Path(f"/proc/{each}/cmdline").read_text() for each in ids}
    except OSError:
        return {}


def _kill_child(process, marker):
    """Kill the first child whose command line has a marker, as the system does it."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        for child, command in _children(process.pid).items():
            if marker in command:
                time.sleep(1)
                os.kill(child, signal.SIGKILL)
                return
        time.sleep(0.05)
    raise AssertionError(f"no child with {marker}")


@pytest.mark.slow
@pytest.mark.simulator
@pytest.mark.parametrize(
    ("arguments", "marker", "message"),
    [
        (
            ["bench", "algos=td3", "seeds=1", "launcher=basic", "dir=grid", "--"],
            "ibrl_torchrl",
            "1 of 1 runs did not finish, such as grid/metaworld-box-close/shared/seed1 (its "
            "process was killed by SIGKILL, often by the system when memory is short)",
        ),
        (
            ["train", "--multirun", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2"],
            "LokyProcess",
            "error: a process of the sweep was killed (SIGKILL, often by the system when memory",
        ),
    ],
)
def test_a_killed_process_of_a_sweep_is_the_reason_that_is_told(
    tmp_path, arguments, marker, message
):
    pytest.importorskip("metaworld")
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    process = subprocess.Popen(
        [*PROGRAM, *arguments, *TINY],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    _kill_child(process, marker)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert message in errors and "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.simulator
def test_optuna_maximises_the_final_success(ibrl, tmp_path, monkeypatch):
    pytest.importorskip("metaworld")
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    monkeypatch.chdir(tmp_path)
    code, _, errors = ibrl(
        *("train", "--multirun", "hydra/sweeper=optuna", "hydra.sweeper.direction=maximize"),
        *("hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1", "hydra.sweep.dir=sweep"),
        *("algo.update.lr=interval(0.0001,0.001)", *TINY),
    )
    assert code == 0, errors
    best = yaml.safe_load((tmp_path / "sweep/optimization_results.yaml").read_text())
    assert best["best_value"] >= 0 and set(best["best_params"]) == {"algo.update.lr"}
    # The default run folder has a time, which Hydra makes the same in all trials.
    assert len([*(tmp_path / "runs/box-close").iterdir()]) == 2
