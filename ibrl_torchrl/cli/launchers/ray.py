"""Launcher on a Ray cluster: each run is a process on one of its nodes.

A run needs nothing of Ray: it resumes from its run folder, which all nodes share. When a node is
lost, its runs are started again on others and lose what came after their last checkpoints.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ibrl_torchrl.cli.launchers.base import Sweep
from ibrl_torchrl.cli.sweep import exit_reason
from ibrl_torchrl.cluster import reason
from ibrl_torchrl.config.ray import RayRunsConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.files import open_in_place
from ibrl_torchrl.runs.folder import is_finished, is_locked
from ibrl_torchrl.runtime import die_with_parent

_POLL_SECONDS = 0.5
# Until the lock of a lost node's run is released: at once on a disk, by a lease on NFS.
_LOCK_SECONDS = 150.0
_STOP_SECONDS = 600.0  # until a run that is asked to stop has written its checkpoint
_MAX_OUTPUT = 20_000  # bytes


class Outcome(NamedTuple):
    """End of a run's process.

    Attributes:
        failure: why it was lost, where its own log cannot tell; None otherwise.
        output: end of what it wrote.
    """

    failure: str | None
    output: str


class RayLauncher:
    """Runs of a sweep on a Ray cluster, as many at a time as it has room for.

    Args:
        ray: module ``ray``, connected to the cluster.
        config: what each run gets, and how often it resumes.
    """

    def __init__(self, ray: ModuleType, config: RayRunsConfig) -> None:
        self._ray = ray
        self._config = config

    def start(self, sweep: Sweep, log: Path) -> RaySweep:
        """Start the runs, see :class:`~ibrl_torchrl.cli.launchers.base.Launcher`."""
        return RaySweep(self._ray, self._config, sweep, log)


class RaySweep:
    """Sweep whose runs are tasks of Ray.

    Ray does not repeat them by itself: only the loss of a node or of a worker process is answered
    with another attempt, not an error of the run.

    Args:
        ray, config: as of :class:`RayLauncher`.
        sweep: runs.
        log: file that output of processes is appended to.
    """

    def __init__(self, ray: ModuleType, config: RayRunsConfig, sweep: Sweep, log: Path) -> None:
        self._ray = ray
        self._retries = config.retries
        self._sweep = sweep
        self._log = log
        self._task = ray.remote(num_cpus=config.cpus, num_gpus=config.gpus, max_retries=0)(
            run_program
        )
        open_in_place(log, "ab").close()  # nodes look for it
        self._losses: Counter[Path] = Counter()
        self._failures: list[str] = []
        self._running: dict[Any, Path] = {}
        for folder in sweep.runs:
            if not is_finished(folder):
                self._submit(folder)

    def is_done(self) -> bool:
        """Whether all runs have ended; submits those again whose node was lost."""
        if self._running:
            pending = [*self._running]
            ended, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0)
            for task in ended:
                self._collect(task, self._running.pop(task))
        return not self._running

    def interrupt(self) -> None:
        """Ask all runs to stop, and wait until they have written checkpoints."""
        for task in self._running:
            self._ray.cancel(task)
        self._ray.wait([*self._running], num_returns=len(self._running), timeout=_STOP_SECONDS)

    def failures(self) -> Iterator[str]:
        """Why runs were lost."""
        yield from self._failures

    def _submit(self, folder: Path) -> None:
        values = self._sweep.runs[folder].items()
        arguments = [*self._sweep.overrides, *(f"{name}={value}" for name, value in values)]
        task = self._task.options(name=f"ibrl {self._sweep.command} {folder}").remote(
            [self._sweep.command, *arguments], Path.cwd(), self._log.absolute(), folder
        )
        self._running[task] = folder

    def _collect(self, task: Any, folder: Path) -> None:
        """Take the result of a run that has ended; submit it again if its node was lost."""
        errors = self._ray.exceptions
        try:
            outcome: Outcome = self._ray.get(task)
        except errors.TaskCancelledError:
            return
        except errors.RayTaskError as error:  # the node lacks the program, or one of its parts
            outcome = Outcome(f"Ray: {reason(error)}", str(error))
        except errors.RayError as error:
            self._losses[folder] += 1
            if self._losses[folder] <= self._retries:
                echo(f"warning: {folder}: lost with its node; it resumes from its last checkpoint")
                self._submit(folder)
                return
            failure = f"lost with its node more than ray.retries={self._retries} times"
            outcome = Outcome(f"{failure} ({reason(error)})", str(error))
        if outcome.failure is not None:
            self._failures.append(outcome.failure)
        if outcome.output:
            with open_in_place(self._log, "ab") as file:
                file.write(f"== {folder}\n{outcome.output.rstrip()}\n".encode())


def run_program(arguments: Sequence[str], cwd: Path, log: Path, folder: Path) -> Outcome:
    """Run a command of the program on a node; the task that Ray executes.

    Cancelling the task stops the run as Ctrl-C does.

    Args:
        arguments: command and settings.
        cwd: working directory of ``ibrl bench``, which relative paths in settings start from.
        log: absolute path of the grid's log, which exists.
        folder: run folder.
    """
    if not (cwd.is_dir() and log.is_file()):
        host = socket.gethostname()
        return Outcome(f"node {host} has no {log}; choose a dir= that all nodes share", "")
    deadline = time.monotonic() + _LOCK_SECONDS
    while is_locked(cwd / folder) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ibrl_torchrl", *arguments],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
        try:
            while process.poll() is None:  # the call itself would not notice a cancellation
                time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            process.terminate()
            process.wait(_STOP_SECONDS)
            raise
        finally:
            process.kill()  # unless it has ended
        output.seek(max(0, output.seek(0, os.SEEK_END) - _MAX_OUTPUT))
        written = output.read().decode(errors="replace")
    return Outcome(exit_reason(process.returncode, written.splitlines()), written)
