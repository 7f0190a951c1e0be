"""Checkpoints: atomic writes, reads that execute no pickled code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ibrl_torchrl.errors import UsageError, brief
from ibrl_torchrl.files import atomic_path
from ibrl_torchrl.runs.contents import (
    require_archive,
    require_like,
    require_plain,
    require_tensors,
)

FORMAT = 1  # version of the layout below
KIND = "ibrl"  # kind of training checkpoints
FALLBACK = "fallback"  # its state of the test that decides who is deployed
SELF_IMITATION = "self_imitation"  # their state of imitation policies that go on learning, by name


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

    ``meta`` has plain values alone, ``state`` dense tensors beside them. Their names, shapes and
    ranges are compared by :func:`load_state` and by the functions of ``contents.py``.

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
        archive = path.read_bytes()  # errors below are errors of the contents
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        max_entries = require_archive(archive)
        content = torch.load(io.BytesIO(archive), map_location="cpu", weights_only=True)
        stored_kind, meta, state = content["kind"], dict(content["meta"]), dict(content["state"])
        version = content["format"]
        require_plain([stored_kind, version, meta], max_entries)
        require_tensors(state, max_entries, len(archive))
    except Exception as error:  # the exception depends on the damaged byte
        raise UsageError(
            f"{path}: not a checkpoint of this program, or damaged; train again"
        ) from error
    if version != FORMAT:
        raise UsageError(f"{path}: checkpoint format {brief(version)}, this version reads {FORMAT}")
    if stored_kind != kind:
        raise UsageError(
            f"{path}: holds a {brief(repr(stored_kind))} checkpoint, expected {kind!r}"
        )
    for key, value in expected.items():
        if meta.get(key) != value:
            raise UsageError(
                f"{path}: was trained with {key}={brief(meta.get(key))}, this run has "
                f"{key}={value}; use a checkpoint of the same kind of run"
            )
    return meta, state


def load_state(module: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Load a state dict into a module.

    Args:
        module: module whose parameters and buffers are replaced.
        state: state dict.
        path: file of the state dict, for error messages.

    Raises:
        UsageError: see :func:`require_state`; the module is unchanged.
    """
    require_state(module, state, path)
    # What is no tensor, such as a batch size, is the module's own.
    module.load_state_dict(
        {
            name: state[name] if isinstance(value, torch.Tensor) else value
            for name, value in module.state_dict().items()
        }
    )


def require_state(module: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Refuse a state dict that does not fit a module, without loading it.

    Raises:
        UsageError: names, shapes or dtypes differ, or a number is NaN or inf; the message has the
            first difference.
    """
    expected = module.state_dict()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            require_like(state.get(name), value, name, path)
    for name in state:
        if name not in expected:
            raise UsageError(
                f"{path}: has {brief(name)}, which this network lacks; use the configuration it "
                "was trained with"
            )
