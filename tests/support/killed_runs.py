"""Two equal runs, of which the second is killed again and again and resumed each time.

    python tests/support/killed_runs.py FOLDER KILLS [SETTING ...]
    python tests/support/killed_runs.py FOLDER stop [SETTING ...]

Leaves them in FOLDER/whole and FOLDER/killed; or one that was told to stop after some
checkpoints, in FOLDER/stopped. Each run is a process of its own, forked from this one, which has
imported everything and computed nothing.
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
    *("task=metaworld/handle-press", "task.horizon=30", "task.state_stack=2", "frames=900"),
    *("demos.episodes=1", "bc.steps=30", "bc.network.hidden=[16]", "algo.warmup_episodes=3"),
    *("algo.actor.hidden=[16]", "algo.critic.hidden=[16]", "algo.update_every=5"),
    *("replay.batch_size=16", "replay.capacity=2000", "log.every=20", "checkpoint_every=40"),
    *("eval.every=150", "eval.episodes=1", "eval.final_episodes=2"),
    "collector.workers=0",
]


def begin(*arguments):
    """Start a command in a process of its own."""
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


def end(process):
    """Wait for a process; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def stop(folder, *settings):
    run = folder / "stopped"
    process = begin(f"run_dir={run}", *SETTINGS, *settings)
    for _ in range(6):
        wait_for_a_checkpoint(run / "checkpoint.pt", process)
    os.kill(process, signal.SIGTERM)
    assert end(process) == 130


def kill(folder, kills, *settings):
    assert end(begin(f"run_dir={folder / 'whole'}", *SETTINGS, *settings)) == 0
    moments = random.Random(kills)
    killed = folder / "killed"
    process = begin(f"run_dir={killed}", *SETTINGS, *settings)
    for number in range(kills):
        if number % 2:  # anywhere, the beginning included
            time.sleep(moments.uniform(0, 1.5))
        else:  # soon after a checkpoint
            wait_for_a_checkpoint(killed / "checkpoint.pt", process)
            time.sleep(moments.uniform(0, 0.1))
        os.kill(process, signal.SIGKILL)
        assert end(process) in (-signal.SIGKILL, 0)
        process = begin(f"resume={killed}")
    assert end(process) == 0


def wait_for_a_checkpoint(path, process):
    """Return when there is a new one, or when the run has ended."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    while not path.exists() or path.stat().st_mtime_ns == before:
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.005)


if __name__ == "__main__":
    place, how, *given = sys.argv[1:]
    torch.set_num_threads(1)
    if how == "stop":
        stop(Path(place), *given)
    else:
        kill(Path(place), int(how), *given)
