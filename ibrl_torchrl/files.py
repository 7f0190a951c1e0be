"""Atomic writes: a file has its new content completely, or is unchanged."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ibrl_torchrl.errors import UsageError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Context manager of a temporary path that replaces ``path`` when the block succeeds.

    An existing file is unchanged until the new one is flushed to disk, and if the block raises.

    Args:
        path: file to write or replace.

    Yields:
        Path of the temporary file, in the same folder.

    Raises:
        UsageError: the folder cannot be written to, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
    except OSError as error:
        raise UsageError(f"{path}: cannot write here ({error.strerror})") from error
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise UsageError(
            f"{path}: cannot be written ({error.strerror}); free some space"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file atomically.

    Args:
        path: file to write or replace.
        columns: header.
        rows: values in the order of the columns.

    Raises:
        UsageError: the folder cannot be written to, or the disk is full.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically.

    Args:
        path: file to write or replace.
        content: JSON object.

    Raises:
        UsageError: the folder cannot be written to, or the disk is full.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
