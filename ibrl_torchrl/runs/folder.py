"""Run folder: lock, configuration, resuming."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from omegaconf import OmegaConf

from ibrl_torchrl.console import echo, redirect_output
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import UNSUPPORTED, atomic_path, full_disk_reported, open_in_place
from ibrl_torchrl.runs.manifest import (
    EPISODE_FILES,
    LEFTOVERS,
    REPLAY_FILES,
    RESULTS,
    mark,
    remove,
    require_no_foreign_files,
    require_no_links,
)
from ibrl_torchrl.runs.names import CHECKPOINT, CONFIG, EVALUATION, LOCK, LOG, PREVIOUS
from ibrl_torchrl.runs.plain import read_yaml
from ibrl_torchrl.runs.provenance import append_resumption, write_provenance
from ibrl_torchrl.runs.tables import flatten_settings

# Settings of a call of the program, which may differ when a run is resumed.
CALL_SETTINGS = ("run_dir", "resume", "if_exists", "quiet")


def is_finished(path: str | Path) -> bool:
    """Whether a folder holds a finished run."""
    return (Path(path) / EVALUATION).is_file()


def has_checkpoint(path: str | Path) -> bool:
    """Whether a folder holds the last checkpoint of a run, or the one before it."""
    return any((Path(path) / name).exists() for name in (CHECKPOINT, PREVIOUS))


@contextmanager
def open_run_folder(
    path: str | Path, config: object, if_exists: str = "refuse"
) -> Iterator[RunFolder]:
    """Context manager that creates and locks a run folder, or locks that of an interrupted run.

    ``config.yaml`` holds the resolved configuration; ``run.json`` the command line, package
    versions, commit and start time of the run and of every resumption.

    A folder that this program has not made is never cleaned, nor is anything in it replaced. Links
    inside the folder are refused, and a full disk in the block is reported in one line.

    Args:
        path: path of the folder.
        config: dataclass of settings.
        if_exists: ``"refuse"`` (default); or ``"resume"``, which resumes an unfinished run from its
            last checkpoint, or the one before it; or, if it has not come to a checkpoint yet,
            removes its files and starts it again.

    Yields:
        The run folder.

    Raises:
        UsageError: the folder holds a run already, or one with other settings or package versions,
            or one whose checkpoints are missing; it holds files of a run's names that are not of a
            run, or links; it is locked by another process; or it cannot be written to.
    """
    path = _available(path, if_exists)  # before the lock leaves a file there
    with lock_folder(path), full_disk_reported(path):
        _available(path, if_exists)  # no other process has started a run meanwhile
        mark(path)
        remove(path, (*LEFTOVERS, *REPLAY_FILES))
        is_resumed = (path / CONFIG).exists() and has_checkpoint(path)
        if is_resumed:
            _require_same(path, read_config(path), _plain(config))
            append_resumption(path)
        else:
            _require_never_saved(path)
            remove(path, RESULTS)
            with atomic_path(path / CONFIG) as temporary:
                OmegaConf.save(OmegaConf.structured(config), temporary)
            write_provenance(path)
        yield RunFolder(path, is_resumed)


def _available(path: str | Path, if_exists: str) -> Path:
    """Path of a folder that a run may be started or resumed in; refuse others."""
    if not str(path):
        raise UsageError("run_dir='' names no folder; leave the setting out, or name one")
    path = Path(path)
    require_no_links(path)
    if (path / CONFIG).exists() and (if_exists == "refuse" or is_finished(path)):
        raise UsageError(f"{path}: holds a run already; choose another run_dir=")
    require_no_foreign_files(path)
    return path


def _require_never_saved(path: Path) -> None:
    """Refuse to start a run again that had a checkpoint: its episodes would be removed."""
    later = [file for file in path.glob(EPISODE_FILES) if int(file.stem) > 0]
    if later:  # the second file of episodes is written after the first checkpoint
        raise UsageError(
            f"{path}: has episodes, but neither {CHECKPOINT} nor {PREVIOUS}; restore one of them "
            "or choose another run_dir="
        )


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
        UsageError: the folder cannot be created or written to, or is locked by another process.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot create the folder ({error.strerror})") from error
    with open_in_place(path / LOCK, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise UsageError(
                    f"{path}: is locked by another process; wait until it ends"
                ) from error
            echo(f"warning: {path}: its file system has no locks; start no second process there")
        yield


def is_locked(path: str | Path) -> bool:
    """Whether a process holds the lock of a folder; False where its file system has no locks."""
    file = Path(path) / LOCK
    if not file.is_file():
        return False
    with file.open() as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)  # released at once
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
    return False


def _require_same(path: Path, original: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse to resume with other settings.

    Raises:
        UsageError: names the first difference.
    """
    stored, given = dict(flatten_settings(original)), dict(flatten_settings(settings))
    for key in dict.fromkeys([*given, *stored]):  # also what this call leaves out
        if key not in CALL_SETTINGS and stored.get(key) != given.get(key):
            raise UsageError(
                f"{path}: was started with {key}={stored.get(key)}, this call has "
                f"{given.get(key)}; use the same settings or another folder"
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

    Raises:
        UsageError: see :func:`open_run_folder`, before the job starts; or of the job.
    """
    if config.if_exists == "resume" and is_finished(config.run_dir):
        echo(f"{config.run_dir}: is finished already")
        return
    _available(config.run_dir, config.if_exists)  # before the job prints its plan
    with redirect_output(Path(config.run_dir) / LOG if config.quiet else None):
        job(config)


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a run's configuration as plain values.

    Raises:
        UsageError: the path is not a run folder, has links under a run's names, or its
            configuration cannot be read or is no plain data.
    """
    file = Path(path) / CONFIG
    if not file.is_file():
        raise UsageError(f"{path}: not a run folder (it has no {CONFIG})")
    require_no_links(Path(path))
    return read_yaml(file)
