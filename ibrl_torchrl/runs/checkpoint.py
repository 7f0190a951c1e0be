"""Checkpoints: atomic writes, reads that execute no pickled code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import atomic_path

FORMAT = 1  # version of the layout below
KIND = "ibrl"  # kind of training checkpoints


def save_checkpoint(path: Path, kind: str, meta: dict[str, Any], state: dict[str, Any]) -> None:
    """Write a checkpoint atomically.

    Args:
        path: file to write or replace.
        kind: kind of contents, such as ``"imitation"`` or ``"ibrl"``.
        meta: plain values that describe the contents, such as the task.
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
    """Read a checkpoint to the CPU, without executing pickled code.

    Args:
        path: file written by :func:`save_checkpoint`.
        kind: expected kind of contents.
        expected: expected entries of ``meta``.

    Returns:
        ``meta`` and ``state`` of the checkpoint.

    Raises:
        UsageError: the file is missing, unreadable, damaged, or of another format or kind, or an
            expected entry differs.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such checkpoint")
    try:
        file = io.BytesIO(path.read_bytes())  # errors below are errors of the contents
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        stored_kind, meta, state = content["kind"], dict(content["meta"]), dict(content["state"])
        version = content["format"]
    except Exception as error:  # the exception depends on the damaged byte
        raise UsageError(
            f"{path}: not a checkpoint of this program, or damaged; train again"
        ) from error
    if version != FORMAT:
        raise UsageError(f"{path}: checkpoint format {version}, this version reads {FORMAT}")
    if stored_kind != kind:
        raise UsageError(f"{path}: holds a {stored_kind!r} checkpoint, expected {kind!r}")
    for key, value in expected.items():
        if meta.get(key) != value:
            raise UsageError(
                f"{path}: was trained with {key}={meta.get(key)}, this run has {key}={value}; "
                "use a checkpoint of the same kind of run"
            )
    return meta, state


def load_state(module: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Load a state dict into a module.

    Args:
        module: module whose parameters and buffers are replaced.
        state: state dict.
        path: file of the state dict, for error messages.

    Raises:
        UsageError: names or shapes differ; the message has the first difference.
    """
    expected = module.state_dict()
    for name, value in expected.items():
        if not isinstance(value, torch.Tensor):
            continue
        if not isinstance(state.get(name), torch.Tensor):
            raise UsageError(
                f"{path}: has no {name}, which this network has; use the configuration it "
                "was trained with"
            )
        if state[name].shape != value.shape:
            raise UsageError(
                f"{path}: {name} has shape {[*state[name].shape]}, this network needs "
                f"{[*value.shape]}; use the configuration it was trained with"
            )
    for name in state:
        if name not in expected:
            raise UsageError(
                f"{path}: has {name}, which this network lacks; use the configuration it was "
                "trained with"
            )
    module.load_state_dict(state)
