"""Tables of the benchmarks, on the screen and as CSV files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

Rows = Sequence[Sequence[object]]


def report(columns: Sequence[str], rows: Rows, path: Path | None) -> None:
    """Print a table, and write it if a file is named."""
    for row in [columns, *rows]:
        print(*row, sep="\t")
    write_table(columns, rows, path)


def write_table(columns: Sequence[str], rows: Rows, path: Path | None) -> None:
    """Write a table as CSV; None: nothing."""
    if path is not None:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
