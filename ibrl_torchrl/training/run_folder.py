"""The folder that a run leaves behind and that says how it came to be."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import replacing
from ibrl_torchrl.training.progress import messages_to, say

CONFIG = "config.yaml"
ORIGIN = "run.json"
CHECKPOINT = "checkpoint.pt"
EVALUATION = "evaluation.csv"
LOG = "log.txt"
# What a run that is begun anew must not find.
_REPLACED = ("demos.hdf5", "bc.pt", CHECKPOINT, "train.csv", "eval.csv")
PACKAGES = (
    *("ibrl_torchrl", "torch", "torchrl", "tensordict"),
    *("metaworld", "robosuite", "mujoco", "numpy"),
)


def is_finished(path: str | Path) -> bool:
    """Whether a folder holds a run that went to its end."""
    return (Path(path) / EVALUATION).is_file()


def create_run_folder(path: str | Path, config: object, if_exists: str = "refuse") -> Path:
    """Make a run's folder and write down its configuration, command and versions.

    ``config.yaml`` is the resolved configuration, ``run.json`` the command line, package versions,
    commit and start time.

    Args:
        path: of the folder.
        config: a dataclass.
        if_exists: ``"go_on"`` begins an unfinished run anew, whose files are removed.

    Raises:
        UsageError: the folder holds a run already or cannot be written to.
    """
    path = Path(path)
    if (path / CONFIG).exists():
        if if_exists == "refuse" or is_finished(path):
            raise UsageError(f"{path}: holds a run already; choose another run_dir=")
        for name in _REPLACED:
            (path / name).unlink(missing_ok=True)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot make the run folder ({error.strerror})") from error
    with replacing(path / CONFIG) as temporary:
        OmegaConf.save(OmegaConf.structured(config), temporary)
    origin = {
        "command": _command(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "commit": _commit(),
    }
    write_json(path / ORIGIN, origin)
    return path


class Runnable(Protocol):
    """What a configuration says of its run folder."""

    run_dir: str
    if_exists: str
    quiet: bool


RunnableT = TypeVar("RunnableT", bound=Runnable)


def in_run_folder(job: Callable[[RunnableT], None], config: RunnableT) -> None:
    """Do a job unless its folder says that it is done; its messages go where they are wanted."""
    if config.if_exists == "go_on" and is_finished(config.run_dir):
        say(f"{config.run_dir}: finished already")
        return
    with messages_to(Path(config.run_dir) / LOG if config.quiet else None):
        job(config)


def note_inputs(path: Path, inputs: Mapping[str, str]) -> None:
    """Add to ``run.json`` what tells the run's demonstrations and BC policy from others."""
    origin = json.loads((path / ORIGIN).read_text())
    write_json(path / ORIGIN, origin | {"inputs": dict(inputs)})


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


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def _command() -> str:
    """What makes this run alone, be it one of a sweep."""
    arguments = sys.argv[1:]
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        arguments = HydraConfig.get().overrides.task
    return f"{Path(sys.argv[0]).name} {shlex.join(arguments)}".strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the source tree, marked if it has changes; None outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None
