"""Origin of a checkpoint: settings, versions and inputs of its run, compared when it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs.contents import entry
from ibrl_torchrl.runs.folder import CALL_SETTINGS, read_config
from ibrl_torchrl.runs.names import CONFIG, PROVENANCE
from ibrl_torchrl.runs.provenance import read_provenance
from ibrl_torchrl.runs.tables import flatten_settings

_NUM_NAMED = 5  # differences that a message names

Origin = Mapping[str, Mapping[str, Any]]


def run_origin(path: Path) -> Origin:
    """Origin of the checkpoints of a run.

    Args:
        path: run folder.

    Returns:
        Values by file name and dotted name: the settings of ``config.yaml`` without those of a
        call; versions, commit, command and hashes of inputs of ``run.json``, without resumptions.

    Raises:
        UsageError: one of the files cannot be read.
    """
    settings = {k: v for k, v in read_config(path).items() if k not in CALL_SETTINGS}
    provenance = {k: v for k, v in read_provenance(path).items() if k != "resumed"}
    return {
        CONFIG: dict(flatten_settings(settings)),
        PROVENANCE: dict(flatten_settings(provenance)),
    }


def stored_origin(meta: dict[str, Any], path: Path) -> Origin:
    """Origin in the ``meta`` of a checkpoint.

    Raises:
        UsageError: it holds none.
    """
    origin = entry(meta, "origin", dict, path)
    return {name: entry(origin, name, dict, path) for name in (CONFIG, PROVENANCE)}


def require_same_origin(path: Path, stored: Origin) -> None:
    """Refuse a run folder that has been changed since its checkpoint was written.

    Args:
        path: run folder.
        stored: origin that the checkpoint holds.

    Raises:
        UsageError: names the differences of the first file.
    """
    for difference in origin_differences(path, stored):
        raise UsageError(f"{difference}; restore the file or start a new run")


def origin_differences(path: Path, stored: Origin) -> Iterator[str]:
    """Differences of a run folder from the origin of its checkpoint, a line for each file."""
    for name, current in run_origin(path).items():
        original = stored[name]
        changed = [
            f"{key}={_short(current, key)}, was {_short(original, key)}"
            for key in dict.fromkeys((*current, *original))
            if key not in original or key not in current or current[key] != original[key]
        ]
        if changed:
            more = len(changed) - _NUM_NAMED
            named = changed[:_NUM_NAMED] + ([f"and {more} more"] if more > 0 else [])
            yield f"{path / name}: differs from its checkpoint in {'; '.join(named)}"


def _short(values: Mapping[str, Any], key: str) -> str:
    """Value in one line of at most 60 characters."""
    return f"{values[key]!r:.60}" if key in values else "missing"
