"""The folder that a run leaves behind and that says how it came to be."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import replacing

CONFIG = "config.yaml"
ORIGIN = "run.json"
CHECKPOINT = "checkpoint.pt"
PACKAGES = (
    *("ibrl_torchrl", "torch", "torchrl", "tensordict"),
    *("metaworld", "robosuite", "mujoco", "numpy"),
)


def create_run_folder(path: str | Path, config: object) -> Path:
    """Make a run's folder and write down its configuration, command and versions.

    ``config.yaml`` is the resolved configuration, ``run.json`` the command line, package versions,
    commit and start time.

    Raises:
        UsageError: the folder holds a run already or cannot be written to.
    """
    path = Path(path)
    if (path / CONFIG).exists():
        raise UsageError(f"{path}: holds a run already; choose another run_dir=")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot make the run folder ({error.strerror})") from error
    with replacing(path / CONFIG) as temporary:
        OmegaConf.save(OmegaConf.structured(config), temporary)
    origin = {
        "command": f"{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}".strip(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "commit": _commit(),
    }
    write_json(path / ORIGIN, origin)
    return path


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
