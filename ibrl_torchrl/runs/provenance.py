"""Provenance of a run, ``run.json``: command line, versions, commit, hashes of inputs."""

from __future__ import annotations

import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ibrl_torchrl.console import echo
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import write_json
from ibrl_torchrl.runs.names import PROVENANCE
from ibrl_torchrl.runs.plain import read_json

if TYPE_CHECKING:  # PyTorch takes seconds, and a run prints its plan first
    from tensordict import TensorDictBase
    from torch import Tensor, nn

PACKAGES = (
    *("ibrl_torchrl", "torch", "torchrl", "tensordict"),
    *("metaworld", "robosuite", "gymnasium", "gymnasium-robotics", "mujoco", "numpy"),
)


def write_provenance(path: Path) -> None:
    """Write command line, package versions, processor, commit and start time to ``run.json``."""
    write_json(path / PROVENANCE, _environment())


def append_resumption(path: Path) -> None:
    """Append command line, package versions, processor, commit and start time of a resumption.

    Says so where the processor is another one.

    Raises:
        UsageError: the version of a package differs from that of the start.
    """
    provenance, current = read_provenance(path), _environment()
    for name, original in provenance.get("versions", {}).items():
        if (installed := current["versions"].get(name)) != original:
            raise UsageError(
                f"{path}: was started with {name} {original}, {installed} is installed; install "
                "that version or start a new run"
            )
    if (original := provenance.get("processor", current["processor"])) != current["processor"]:
        echo(
            f"{path}: was started on {original}, this is {current['processor']}, which may round "
            "differently: numbers from here on may differ from those of a run in one go"
        )
    resumed = [*provenance.get("resumed", []), current]
    write_json(path / PROVENANCE, provenance | {"resumed": resumed})


def write_inputs(path: Path, inputs: Mapping[str, str]) -> None:
    """Add fingerprints of a run's inputs to ``run.json``.

    Args:
        path: run folder.
        inputs: result of :func:`input_fingerprints`.

    Raises:
        UsageError: the run was started with other inputs.
    """
    provenance = read_provenance(path)
    original = provenance.get("inputs", inputs)
    for name in inputs:
        if original.get(name) != inputs[name]:
            raise UsageError(f"{path}: {name} differs from the one of its start; restore the file")
    write_json(path / PROVENANCE, provenance | {"inputs": dict(inputs)})


def read_provenance(path: Path) -> dict[str, Any]:
    """Read ``run.json`` of a run folder.

    Raises:
        UsageError: the file cannot be read.
    """
    return read_json(path / PROVENANCE)


def _environment() -> dict[str, Any]:
    return {
        "command": _command(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "versions": {name: installed for name in PACKAGES if (installed := _version(name))},
        "commit": _commit(),
    }


def _processor() -> str:
    """Model of the processor, by which math libraries choose kernels that round differently."""
    try:
        text = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    fields = dict(re.findall(r"^(.+?)\s*: (.+)$", text, re.MULTILINE))
    numbers = ("cpu family", "model")  # virtual machines give several models one name
    return ", ".join(
        [
            fields.get("model name", platform.machine()),
            *(f"{name} {fields[name]}" for name in numbers if name in fields),
        ]
    )


def _command() -> str:
    """Command line of this run; in a sweep, without the other runs' values."""
    from hydra.core.hydra_config import HydraConfig  # reading a run folder needs no Hydra
    from hydra.types import RunMode

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
    """Git commit of the source tree, ``-dirty`` with changes; None if it is in no repository.

    A virtual environment may be inside the repository of another project.
    """
    try:
        if not _git("ls-files", Path(__file__).name):
            return None
        return _git("describe", "--always", "--dirty", "--abbrev=12") or None
    except (OSError, subprocess.TimeoutExpired):
        return None


def _git(*arguments: str) -> str:
    """Output of a git command in the folder of this file; empty if it fails."""
    command = ["git", *arguments]
    folder = Path(__file__).parent
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10)
    return result.stdout.strip()


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """SHA-256 of dtypes, shapes and values, the first 16 hexadecimal digits.

    Example:
        >>> import torch
        >>> from ibrl_torchrl.runs.provenance import fingerprint
        >>> fingerprint([torch.zeros(2), torch.ones(1, dtype=torch.int64)])
        'f56c0a7bd5a3330d'
    """
    digest = sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def input_fingerprints(
    episodes: Iterable[TensorDictBase], policies: Mapping[str, nn.Module]
) -> dict[str, str]:
    """Fingerprints of a run's inputs.

    Args:
        episodes: demonstrations, TensorDicts [T].
        policies: imitation policies by name.

    Returns:
        Fingerprint of all demonstrations, ``"demos"``, and of the weights of each policy, by name.
    """
    values = (
        episode[key] for episode in episodes for key in sorted(episode.keys(True, True), key=str)
    )
    return {
        "demos": fingerprint(values),
        **{name: fingerprint(policy.state_dict().values()) for name, policy in policies.items()},
    }
