"""Run folder: lock, configuration, resuming."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from omegaconf import OmegaConf

from ibrl_torchrl.console import echo, redirect_output
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import atomic_path
from ibrl_torchrl.runs.names import (
    BEST,
    CHECKPOINT,
    CONFIG,
    DEMOS,
    EPISODES,
    EVAL,
    EVALUATION,
    IMITATION,
    LOG,
    PREVIOUS,
    TRAIN,
)
from ibrl_torchrl.runs.provenance import append_resumption, write_provenance
from ibrl_torchrl.runs.tables import flatten_settings

_LOCK = ".lock"
# Removed when an unfinished run without a checkpoint is started again.
_REMOVED_FILES = (DEMOS, CHECKPOINT, PREVIOUS, BEST, TRAIN, EVAL)
_REMOVED_FOLDERS = (EPISODES, IMITATION)

# Settings of a call of the program, which may differ when a run is resumed.
CALL_SETTINGS = ("run_dir", "resume", "if_exists", "quiet")


def is_finished(path: str | Path) -> bool:
    """Whether a folder holds a finished run."""
    return (Path(path) / EVALUATION).is_file()


@contextmanager
def open_run_folder(
    path: str | Path, config: object, if_exists: str = "refuse"
) -> Iterator[RunFolder]:
    """Context manager that creates and locks a run folder, or locks that of an interrupted run.

    ``config.yaml`` holds the resolved configuration; ``run.json`` the command line, package
    versions, commit and start time of the run and of every resumption.

    Args:
        path: path of the folder.
        config: dataclass of settings.
        if_exists: ``"refuse"`` (default); or ``"resume"``, which resumes an unfinished run from its
            checkpoint, or, without one, removes its files and starts it again.

    Yields:
        The run folder.

    Raises:
        UsageError: the folder holds a run already, or one with other settings or package versions;
            it is locked by another process; or it cannot be written to.
    """
    path = Path(path)
    exists = (path / CONFIG).exists()
    if exists and (if_exists == "refuse" or is_finished(path)):
        raise UsageError(f"{path}: holds a run already; choose another run_dir=")
    with lock_folder(path):
        for leftover in path.rglob(".*.tmp"):  # of a killed process
            leftover.unlink()
        is_resumed = exists and (path / CHECKPOINT).exists()
        if is_resumed:
            _require_same(path, read_config(path), _plain(config))
            append_resumption(path)
        else:
            for name in _REMOVED_FILES:
                (path / name).unlink(missing_ok=True)
            for name in _REMOVED_FOLDERS:
                shutil.rmtree(path / name, ignore_errors=True)
            with atomic_path(path / CONFIG) as temporary:
                OmegaConf.save(OmegaConf.structured(config), temporary)
            write_provenance(path)
        yield RunFolder(path, is_resumed)


class RunFolder(NamedTuple):
    """Run folder.

    Attributes:
        path: path of the folder.
        is_resumed: whether it has a checkpoint to resume from.
    """

    path: Path
    is_resumed: bool


@contextmanager
def lock_folder(path: Path) -> Iterator[None]:
    """Context manager that creates a folder and locks it for this process.

    The operating system releases the lock of a process that dies.

    Raises:
        UsageError: the folder cannot be created, or is locked by another process.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot create the folder ({error.strerror})") from error
    with (path / _LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{path}: is locked by another process; wait until it ends") from error
        yield


def _require_same(path: Path, original: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse to resume with other settings.

    Raises:
        UsageError: names the first difference.
    """
    values = dict(flatten_settings(original))
    for key, value in flatten_settings(settings):
        if key not in CALL_SETTINGS and (stored := values.get(key)) != value:
            raise UsageError(
                f"{path}: was started with {key}={stored}, this call has {value}; use the same "
                "settings or another folder"
            )


def _plain(config: object) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.structured(config)))


class Runnable(Protocol):
    """Settings of a command that writes a run folder."""

    run_dir: str
    if_exists: str
    quiet: bool


RunnableT = TypeVar("RunnableT", bound=Runnable)


def run_job(job: Callable[[RunnableT], None], config: RunnableT) -> None:
    """Run a job in its run folder, unless ``if_exists=resume`` and the folder's run is finished.

    Args:
        job: function of the settings.
        config: settings; ``quiet`` redirects console output to ``log.txt`` in the run folder.
    """
    if config.if_exists == "resume" and is_finished(config.run_dir):
        echo(f"{config.run_dir}: is finished already")
        return
    with redirect_output(Path(config.run_dir) / LOG if config.quiet else None):
        job(config)


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a run's configuration as plain values.

    Raises:
        UsageError: the path is not a run folder, or its configuration cannot be read.
    """
    file = Path(path) / CONFIG
    if not file.is_file():
        raise UsageError(f"{path}: not a run folder (it has no {CONFIG})")
    try:
        content = OmegaConf.to_container(OmegaConf.load(file))
    except Exception as error:
        raise UsageError(f"{file}: cannot be read as a configuration") from error
    if not isinstance(content, dict):
        raise UsageError(f"{file}: cannot be read as a configuration")
    return cast(dict[str, Any], content)
