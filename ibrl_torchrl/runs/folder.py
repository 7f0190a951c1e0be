"""The folder that a run leaves behind."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from omegaconf import OmegaConf

from ibrl_torchrl.console import echo, redirect_output
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import atomic_path
from ibrl_torchrl.runs.provenance import append_resumption, write_provenance
from ibrl_torchrl.runs.tables import flatten_settings

CONFIG = "config.yaml"
CHECKPOINT = "checkpoint.pt"
EVALUATION = "evaluation.csv"
LOG = "log.txt"
BEST = "best.pt"
FAILED = "not-finite.pt"
PREVIOUS = "checkpoint-previous.pt"
EPISODES = "episodes"
_LOCK = ".lock"
# What a run that is begun anew must not find.
_REPLACED = ("demos.hdf5", "bc.pt", CHECKPOINT, PREVIOUS, BEST, "train.csv", "eval.csv")

# Settings that a resumed run need not share.
OF_THE_CALL = ("run_dir", "resume", "if_exists", "quiet")


def is_finished(path: str | Path) -> bool:
    """Whether a folder holds a run that went to its end."""
    return (Path(path) / EVALUATION).is_file()


@contextmanager
def open_run_folder(
    path: str | Path, config: object, if_exists: str = "refuse"
) -> Iterator[RunFolder]:
    """Make a run's folder, or enter that of an interrupted run, and keep others out of it.

    ``config.yaml`` is the resolved configuration, ``run.json`` the command line, package versions,
    commit and start time, and those of each time it was resumed.

    Args:
        path: of the folder.
        config: a dataclass.
        if_exists: ``"refuse"``; or ``"resume"``, which enters an unfinished run that has a
            checkpoint, and begins one anew that has none, whose files are removed.

    Raises:
        UsageError: the folder holds a run already, or one with other settings or of other versions
            of what it depends on; another process is at it; or it cannot be written to.
    """
    path = Path(path)
    exists = (path / CONFIG).exists()
    if exists and (if_exists == "refuse" or is_finished(path)):
        raise UsageError(f"{path}: holds a run already; choose another run_dir=")
    with lock_folder(path):
        for unfinished in path.rglob(".*.tmp"):  # of a process that was killed
            unfinished.unlink()
        is_resumed = exists and (path / CHECKPOINT).exists()
        if is_resumed:
            _require_same(path, read_config(path), _plain(config))
            append_resumption(path)
        else:
            for name in _REPLACED:
                (path / name).unlink(missing_ok=True)
            shutil.rmtree(path / EPISODES, ignore_errors=True)
            with atomic_path(path / CONFIG) as temporary:
                OmegaConf.save(OmegaConf.structured(config), temporary)
            write_provenance(path)
        yield RunFolder(path, is_resumed)


class RunFolder(NamedTuple):
    """A run's folder, and whether there is a checkpoint in it to go on from."""

    path: Path
    is_resumed: bool


@contextmanager
def lock_folder(path: Path) -> Iterator[None]:
    """Make a folder and keep other processes out of it; of one that dies, the lock goes with it.

    Raises:
        UsageError: it cannot be made, or another process holds its lock.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot make the folder ({error.strerror})") from error
    with (path / _LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{path}: another process is at it; wait for its end") from error
        yield


def _require_same(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to go on with other settings.

    Raises:
        UsageError: names the first difference.
    """
    began = dict(flatten_settings(found))
    for key, value in flatten_settings(wanted):
        if key not in OF_THE_CALL and (had := began.get(key)) != value:
            raise UsageError(
                f"{path}: was begun with {key}={had}, this call has {value}; use the same "
                "settings or another folder"
            )


def _plain(config: object) -> dict[str, Any]:
    return dict(OmegaConf.to_container(OmegaConf.structured(config)))


class Runnable(Protocol):
    """What a configuration says of its run folder."""

    run_dir: str
    if_exists: str
    quiet: bool


RunnableT = TypeVar("RunnableT", bound=Runnable)


def run_job(job: Callable[[RunnableT], None], config: RunnableT) -> None:
    """Do a job unless its folder says that it is done; its messages go where they are wanted."""
    if config.if_exists == "resume" and is_finished(config.run_dir):
        echo(f"{config.run_dir}: finished already")
        return
    with redirect_output(Path(config.run_dir) / LOG if config.quiet else None):
        job(config)


def read_config(path: str | Path) -> dict[str, Any]:
    """The configuration a run was made with, as plain values.

    Raises:
        UsageError: the folder is not a run's, or its configuration cannot be read.
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
    return content
