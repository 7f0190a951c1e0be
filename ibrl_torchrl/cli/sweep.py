"""Trials of a sweep (``--multirun``): folders, numbers, errors of trials and dead processes."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ibrl_torchrl.cli.failure import explanation, report_error
from ibrl_torchrl.config.compose import trial_number
from ibrl_torchrl.errors import UsageError

_KILLED = "a process of the sweep was killed"


class FailedTrial(Exception):
    """Error of a trial that its process has printed; Hydra's sweepers expect an exception."""


def separate_run_dir(config: DictConfig) -> None:
    """Give each trial a default run folder of its own, in place.

    Hydra makes the time in the default ``run_dir`` the same for all trials.
    """
    number, overrides = trial_number(), HydraConfig.get().overrides.task
    if number is not None and "run_dir" in config and not any(map(_sets_run_dir, overrides)):
        config.run_dir = f"{config.run_dir}-{number}"


def fail_trial(error: Exception) -> FailedTrial:
    """Print the error of a trial with its overrides; returns the exception to raise."""
    message, overrides = explanation(error), " ".join(HydraConfig.get().overrides.task)
    trial = f"trial {trial_number()}: {overrides}"
    if message is None:
        report_error(error)
        message = f"failed ({trial})"
    else:
        print(f"error: {message} ({trial})", file=sys.stderr, flush=True)
    return FailedTrial(message)


def killed_process(error: BaseException) -> UsageError | None:
    """Error for a process of joblib that was killed; None for any other exception."""
    if type(error).__name__ != "TerminatedWorkerError":
        return None
    signals = ", ".join(dict.fromkeys(re.findall(r"SIG[A-Z]+", str(error)))) or "unknown signal"
    return UsageError(
        f"{_KILLED} ({signals}{_hint(signals)}); the other trials ended with it, finished runs are "
        "kept"
    )


def exit_reason(returncode: int, log: Sequence[str]) -> str | None:
    """Why the process of a sweep was killed; None if it was not.

    Args:
        returncode: its exit code, negative for a signal.
        log: lines that it wrote, with those of :func:`killed_process`.
    """
    if returncode < 0:
        name = signal.Signals(-returncode).name
        return f"its process was killed by {name}{_hint(name)}"
    killed = [line for line in log if line.startswith(f"error: {_KILLED}")]
    return killed[-1].removeprefix("error: ").split(";")[0] if killed else None


def _hint(signals: str) -> str:
    return ", often by the system when memory is short" if "SIGKILL" in signals else ""


def _sets_run_dir(override: Any) -> bool:
    return str(override).lstrip("+").startswith("run_dir=")
