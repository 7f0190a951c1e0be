"""Tables of a run folder."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by its header's names."""
    with file.open(newline="") as opened:
        return [*csv.DictReader(opened)]


def flatten_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings by dotted names, such as ``"algo.lr"``."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flatten_settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


class CsvTable:
    """A CSV file that grows by whole lines.

    Args:
        path: file to write.
        columns: its header. A row may leave entries out; others are refused.
        size: go on with an existing file after so many bytes, what :meth:`sync` gave; what follows
            is cut off. None (default) replaces it.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, size: int | None = None) -> None:
        self._file = path.open("w" if size is None else "r+", newline="")
        self._writer = csv.DictWriter(self._file, columns)
        if size is None:
            self._writer.writeheader()
        else:
            self._file.truncate(size)
            self._file.seek(size)
        self._file.flush()

    def sync(self) -> int:
        """Wait until all rows are on the disk; the file's size in bytes."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def write(self, row: Mapping[str, object]) -> None:
        """Append one row, on disk when this returns."""
        self._writer.writerow(
            {key: f"{v:.6g}" if isinstance(v, float) else v for key, v in row.items()}
        )
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
