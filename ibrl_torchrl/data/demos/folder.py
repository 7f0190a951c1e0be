"""Files of a dataset that is a folder, of unknown origin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ibrl_torchrl.errors import UsageError, brief

_MAX_TEXT = 64 << 20  # bytes; descriptions of thousands of episodes have some 1 MB


def path_inside(root: Path, name: str) -> Path:
    """Path of a file of a dataset.

    Args:
        root: folder of the dataset.
        name: path relative to it, parts of which may come from the dataset's own files.

    Raises:
        UsageError: the path, or a link on it, leads out of the folder.
    """
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise UsageError(
            f"{root}: {brief(name)} leads out of the dataset's folder; copy the file into it"
        )
    return path


def read_text_inside(root: Path, name: str) -> str:
    """Read a text file of a dataset.

    Raises:
        UsageError: the file is missing, no text, or larger than 64 MiB.
    """
    path = path_inside(root, name)
    if not path.is_file():
        raise UsageError(f"{path}: no such file, which the dataset needs; copy it again")
    if path.stat().st_size > _MAX_TEXT:
        raise UsageError(f"{path}: has {path.stat().st_size} bytes, at most {_MAX_TEXT} are read")
    try:
        return path.read_text()
    except ValueError as error:
        raise UsageError(f"{path}: is not text ({brief(error)}); copy it again") from error


def json_object(text: str, where: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        UsageError: it is none; ``where`` is the file, for the message.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: is not JSON ({brief(error)}); copy it again") from error
    if not isinstance(content, dict):
        raise UsageError(f"{where}: is not a JSON object; copy it again")
    return content


def read_json_inside(root: Path, name: str) -> dict[str, Any]:
    """Read a JSON object of a dataset.

    Raises:
        UsageError: the file is missing, no JSON object, or larger than 64 MiB.
    """
    return json_object(read_text_inside(root, name), str(root / name))
