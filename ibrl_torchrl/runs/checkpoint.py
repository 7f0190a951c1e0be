"""Checkpoints: written atomically, read without unpickling code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import atomic_path

FORMAT = 1


def save_checkpoint(path: Path, kind: str, meta: dict[str, Any], state: dict[str, Any]) -> None:
    """Write a checkpoint atomically.

    Args:
        path: file to write or replace.
        kind: kind of contents, such as ``"imitation"`` or ``"ibrl"``.
        meta: plain values that identify its origin, such as the task.
        state: state dicts by name.

    Raises:
        UsageError: the folder cannot be written to, or the disk is full.
    """
    content = io.BytesIO()  # torch.save does not distinguish a full disk from other failures
    torch.save({"format": FORMAT, "kind": kind, "meta": meta, "state": state}, content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load_checkpoint(
    path: Path, kind: str, expected: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint to the CPU; pickled code is refused.

    Args:
        path: file written by :func:`save_checkpoint`.
        kind: expected kind of contents.
        expected: expected entries of its ``meta``.

    Returns:
        Its ``meta`` and its ``state``.

    Raises:
        UsageError: the file is missing, unreadable, damaged, of another kind, or of another
            origin.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such checkpoint")
    try:
        file = io.BytesIO(path.read_bytes())  # so that failures below are of its contents
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        found, meta, state = content["kind"], dict(content["meta"]), dict(content["state"])
        version = content["format"]
    except Exception as error:  # the exception depends on the damaged byte
        raise UsageError(
            f"{path}: not a checkpoint of this program, or damaged; train again"
        ) from error
    if version != FORMAT:
        raise UsageError(f"{path}: checkpoint format {version}, this version reads {FORMAT}")
    if found != kind:
        raise UsageError(f"{path}: holds a {found!r} checkpoint, expected {kind!r}")
    for key, value in expected.items():
        if meta.get(key) != value:
            raise UsageError(
                f"{path}: was trained with {key}={meta.get(key)}, this run has {key}={value}; "
                "use a checkpoint of the same kind of run"
            )
    return meta, state


def load_state(module: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Load a module's state dict from a checkpoint.

    Raises:
        UsageError: names or shapes differ; the first difference is named.
    """
    own = module.state_dict()
    for name, value in own.items():
        if not isinstance(value, torch.Tensor):
            continue
        if not isinstance(state.get(name), torch.Tensor):
            raise UsageError(f"{path}: has no {name}; it is of another network")
        if state[name].shape != value.shape:
            raise UsageError(
                f"{path}: {name} has shape {[*state[name].shape]}, this network needs "
                f"{[*value.shape]}; use the configuration it was trained with"
            )
    for name in state:
        if name not in own:
            raise UsageError(
                f"{path}: has {name}, which this network lacks; use the configuration it was "
                "trained with"
            )
    module.load_state_dict(state)


KIND = "ibrl"
