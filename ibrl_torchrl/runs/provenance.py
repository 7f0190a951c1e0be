"""``run.json``: how a run came to be."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from tensordict import TensorDictBase
from torch import Tensor, nn

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import write_json

PROVENANCE = "run.json"
PACKAGES = (
    *("ibrl_torchrl", "torch", "torchrl", "tensordict"),
    *("metaworld", "robosuite", "mujoco", "numpy"),
)


def write_provenance(path: Path) -> None:
    """Write down the command line, package versions, commit and start time."""
    write_json(path / PROVENANCE, _here_and_now())


def append_resumption(path: Path) -> None:
    """Add the same of a call that goes on with the run.

    Raises:
        UsageError: versions of what results depend on differ.
    """
    origin, here = read_provenance(path), _here_and_now()
    for name, had in origin.get("versions", {}).items():
        if (present := here["versions"].get(name)) != had:
            raise UsageError(
                f"{path}: was begun with {name} {had}, here is {present}; install that version "
                "or begin a new run"
            )
    write_json(path / PROVENANCE, origin | {"resumed": [*origin.get("resumed", []), here]})


def write_inputs(path: Path, inputs: Mapping[str, str]) -> None:
    """Add to ``run.json`` what tells the run's demonstrations and BC policy from others.

    Raises:
        UsageError: an interrupted run had others.
    """
    origin = read_provenance(path)
    had = origin.get("inputs", inputs)
    for name in inputs:
        if had.get(name) != inputs[name]:
            raise UsageError(f"{path}: its {name} are not those it was begun with; restore them")
    write_json(path / PROVENANCE, origin | {"inputs": dict(inputs)})


def read_provenance(path: Path) -> dict[str, Any]:
    """What ``run.json`` says.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return dict(json.loads((path / PROVENANCE).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{path / PROVENANCE}: cannot be read") from error


def _here_and_now() -> dict[str, Any]:
    return {
        "command": _command(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "commit": _commit(),
    }


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


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """16 hexadecimal digits that differ where types, shapes or numbers do."""
    digest = sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def input_fingerprints(
    episodes: Iterable[TensorDictBase], policies: Mapping[str, nn.Module]
) -> dict[str, str]:
    """Fingerprints of a run's demonstrations, ``"demos"``, and of each imitation policy."""
    values = (
        episode[key] for episode in episodes for key in sorted(episode.keys(True, True), key=str)
    )
    return {
        "demos": fingerprint(values),
        **{name: fingerprint(policy.state_dict().values()) for name, policy in policies.items()},
    }
