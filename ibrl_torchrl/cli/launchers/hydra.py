"""Hydra's launchers: joblib on this machine, submitit on a Slurm cluster, ..."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from ibrl_torchrl.cli.launchers.base import Sweep
from ibrl_torchrl.cli.sweep import exit_reason
from ibrl_torchrl.config.compose import quoted
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import open_in_place
from ibrl_torchrl.runtime import die_with_parent


class HydraLauncher:
    """Runs of a sweep by a launcher of Hydra, in one process with ``--multirun``.

    Args:
        name: name of the launcher, such as ``"joblib"``.
        jobs: runs at a time, with joblib.

    Raises:
        UsageError: the launcher's package is not installed.
    """

    def __init__(self, name: str, jobs: int) -> None:
        package = name.split("_")[0]
        # Hydra has ``basic`` itself.
        if name != "basic" and find_spec(f"hydra_plugins.hydra_{package}_launcher") is None:
            raise UsageError(
                f"launcher={name}: not installed; install it with: pip install "
                f"hydra-{package}-launcher"
            )
        self._overrides = [f"hydra/launcher={name}"]
        if name == "joblib":
            self._overrides.append(f"hydra.launcher.n_jobs={jobs}")

    def start(self, sweep: Sweep, log: Path) -> HydraSweep:
        """Start the runs, see :class:`~ibrl_torchrl.cli.launchers.base.Launcher`."""
        axes = [f"{name}={','.join(values)}" for name, values in sweep.axes.items()]
        folder = f"hydra.sweep.dir={quoted(str(log.parent))}"
        program = [sys.executable, "-m", "ibrl_torchrl", sweep.command, "--multirun"]
        with open_in_place(log, "ab") as file:
            begin = log.stat().st_size
            process = subprocess.Popen(
                [*program, *self._overrides, folder, *sweep.overrides, *axes],
                stdout=file,
                stderr=file,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        return HydraSweep(process, log, begin)


class HydraSweep:
    """Process that runs a sweep.

    Args:
        process: the process.
        log: file that it writes to.
        begin: size of that file at its start.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path, begin: int) -> None:
        self._process = process
        self._log = log
        self._begin = begin

    def is_done(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def interrupt(self) -> None:
        """Wait for the process, which a terminal interrupts together with this one."""
        self._process.wait()

    def failures(self) -> Iterator[str]:
        """Why the process, or one of the launcher's, was killed, if one was."""
        written = self._log.read_bytes()[self._begin :].decode(errors="replace")
        reason = exit_reason(self._process.returncode, written.splitlines())
        if reason is not None:
            yield reason
