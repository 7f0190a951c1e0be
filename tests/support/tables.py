"""Tables of a run without columns of wall time."""

import csv
from pathlib import Path


def timeless(path: Path) -> list[dict[str, str | None]]:
    """Rows of a CSV file with ``wall_s`` set to None, to compare runs."""
    with path.open(newline="") as file:
        return [{**row, "wall_s": None} for row in csv.DictReader(file)]
