"""Heat maps of a comparison: probabilities of improvement for each pair of methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ibrl_torchrl.reports.run_tables import Row


@dataclass(frozen=True)
class HeatMap:
    """Matrix of probabilities.

    Attributes:
        name: end of the files' names, such as ``"improvement"``.
        heading: text above the figure.
        caption: sentences on what is drawn.
        labels: names of rows and columns.
        values: probabilities by row and column; those on the diagonal are missing.
        certain: entries whose interval excludes one half.
    """

    name: str
    heading: str
    caption: str
    labels: tuple[str, ...]
    values: Mapping[tuple[str, str], float]
    certain: frozenset[tuple[str, str]]


def improvement_maps(rows: Sequence[Row]) -> list[HeatMap]:
    """Heat maps of the final success and of the success while learning; empty without pairs.

    Args:
        rows: see :func:`~ibrl_torchrl.reports.tables.improvement_table`.
    """
    if not rows:
        return []
    heading = "Probability of improvement"
    return [
        _improvement_map(rows, "probability", "improvement", f"{heading}: final success"),
        _improvement_map(rows, "while_learning", "improvement_auc", f"{heading}: while learning"),
    ]


def _improvement_map(rows: Sequence[Row], key: str, name: str, heading: str) -> HeatMap:
    pairs = {(row["method"], row["than"]): row for row in rows}
    return HeatMap(
        name,
        heading,
        "Probability in % that a run of the row's method has a higher success than one of the "
        "column's; ties count half. Bold: the 95 % interval excludes 50 %.",
        tuple(dict.fromkeys(row["method"] for row in rows)),
        {pair: row[key] for pair, row in pairs.items()},
        frozenset(
            pair
            for pair, row in pairs.items()
            if not row[f"{key}_low"] <= 0.5 <= row[f"{key}_high"]
        ),
    )
