"""Runs that are killed or stopped, for tests of resumption.

    python tests/support/killed_runs.py FOLDER KILLS [SETTING ...]
    python tests/support/killed_runs.py FOLDER stop [SETTING ...]

The first form leaves two runs of the same settings: FOLDER/whole, uninterrupted, and FOLDER/killed,
killed KILLS times and resumed each time. The second form leaves FOLDER/stopped, which received
SIGTERM after six checkpoints. Each run is a forked process of its own: the parent has imported
everything and computed nothing.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import metaworld  # noqa: F401
import torch

from ibrl_torchrl.cli import main as cli

SETTINGS = [
    *("task=metaworld/handle-press", "task.horizon=30", "task.state_stack=2", "total_frames=900"),
    *("demos.episodes=1", "imitation.bc.steps=30", "imitation.bc.network.hidden=[16]"),
    *("algo.actor.hidden=[16]", "algo.critic.hidden=[16]", "algo.warmup.episodes=3"),
    *("algo.update.frames_per_round=5", "replay.batch_size=16", "replay.capacity=2000"),
    *("log.every=20", "checkpoint_every=40"),
    *("eval.every=150", "eval.episodes=1", "eval.final_episodes=2"),
    "collector.workers=0",
]


def start(*arguments: str) -> int:
    """Start ``ibrl train`` in a forked process; returns its id."""
    process = os.fork()
    if process:
        return process
    sys.argv = ["ibrl", "train", *arguments]
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        cli.main()
    except SystemExit as stop:
        os._exit(stop.code if isinstance(stop.code, int) else 0)
    os._exit(0)


def exit_code(process: int) -> int:
    """Wait for a process and return its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def run_stopped(folder: Path, *settings: str) -> None:
    """Leave FOLDER/stopped."""
    run = folder / "stopped"
    process = start(f"run_dir={run}", *SETTINGS, *settings)
    for _ in range(6):
        wait_for_checkpoint(run / "checkpoint.pt", process)
    os.kill(process, signal.SIGTERM)
    assert exit_code(process) == 130


def run_killed(folder: Path, kills: int, *settings: str) -> None:
    """Leave FOLDER/whole and FOLDER/killed."""
    assert exit_code(start(f"run_dir={folder / 'whole'}", *SETTINGS, *settings)) == 0
    delays = random.Random(kills)
    killed = folder / "killed"
    process = start(f"run_dir={killed}", *SETTINGS, *settings)
    for number in range(kills):
        if number % 2:  # at any time, including before the first checkpoint
            time.sleep(delays.uniform(0, 1.5))
        else:  # soon after a checkpoint
            wait_for_checkpoint(killed / "checkpoint.pt", process)
            time.sleep(delays.uniform(0, 0.1))
        os.kill(process, signal.SIGKILL)
        assert exit_code(process) in (-signal.SIGKILL, 0)
        process = start(f"resume={killed}")
    assert exit_code(process) == 0


def wait_for_checkpoint(path: Path, process: int) -> None:
    """Return when a new checkpoint is written, or when the run has ended."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    while not path.exists() or path.stat().st_mtime_ns == before:
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.005)


if __name__ == "__main__":
    folder, mode, *settings = sys.argv[1:]
    torch.set_num_threads(1)
    if mode == "stop":
        run_stopped(Path(folder), *settings)
    else:
        run_killed(Path(folder), int(mode), *settings)
