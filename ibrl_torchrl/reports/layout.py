"""Columns of the page's tables: keys, headings and formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ibrl_torchrl.keys import HYBRID, RL
from ibrl_torchrl.reports.tables import Row, length_column, success_column
from ibrl_torchrl.runs.tables import share_column

# Forms of columns, beside format specifications. Texts are classes of the page's style sheet.
TEXT = "text"
CODE = "code"  # monospaced
ESTIMATE = "estimate"  # value (low to high)


class Column(NamedTuple):
    """Column of a table.

    Attributes:
        key: entry of a row.
        heading: text above the column.
        form: ``TEXT``, ``CODE``, ``ESTIMATE`` or a format specification.
    """

    key: str
    heading: str
    form: str


_METHOD = Column("method", "method", TEXT)
_SEED = Column("seed", "seed", "d")


def columns(imitation: Sequence[str]) -> dict[str, list[Column]]:
    """Columns by table.

    Args:
        imitation: names of the imitation policies, which have columns in several tables.
    """
    policies = [
        Column(success_column(RL), "RL actor", ".2f"),
        *(Column(success_column(name), name, ".2f") for name in imitation),
    ]
    return {
        "final": [
            _METHOD,
            Column("runs", "runs", "d"),
            Column("episodes", "episodes", "d"),
            Column("success", "success", ESTIMATE),
            Column("while_learning", "while learning", ESTIMATE),
            *policies,
            *(Column(share_column("acting", n), f"{n} share", ".2f") for n in imitation),
        ],
        "speed": [
            _METHOD,
            _SEED,
            Column("frames_to_50", "frames to 50\u00a0%", ",.0f"),
            Column("minutes_to_50", "minutes", ".1f"),
            Column("frames_to_90", "frames to 90\u00a0%", ",.0f"),
            Column("minutes_to_90", "minutes", ".1f"),
        ],
        "lengths": [
            _METHOD,
            _SEED,
            *(Column(length_column(name), name, ".1f") for name in (*imitation, HYBRID)),
        ],
        "improvement": [
            Column("method", "X", TEXT),
            Column("than", "Y", TEXT),
            Column("probability", "final success", ESTIMATE),
            Column("while_learning", "while learning", ESTIMATE),
        ],
        "diagnosis": [_METHOD, _SEED, *_diagnosis_columns(imitation)],
        "all_settings": [Column("setting", "setting", TEXT), Column("value", "value", CODE)],
        "runs": [
            _METHOD,
            _SEED,
            Column("success", "success", ".2f"),
            *policies,
            Column("minutes", "minutes", ".1f"),
            Column("commit", "commit", TEXT),
            Column("command", "command", CODE),
        ],
    }


def _diagnosis_columns(imitation: Sequence[str]) -> list[Column]:
    return [
        Column("value_error_success", "value error: success", "+.3f"),
        Column("value_error_failure", "failure", "+.3f"),
        *(
            column
            for name in imitation
            for column in (
                Column(f"success_demonstrated/{name}", f"{name} success: demo states", ".2f"),
                Column(f"success_visited/{name}", "visited states", ".2f"),
                Column(f"error_demonstrated/{name}", f"{name} error: demo states", ".2f"),
                Column(f"error_visited/{name}", "visited states", ".2f"),
            )
        ),
    ]


def format_cell(row: Row, column: Column) -> str:
    """Text of a row's entry; a dash where it is None."""
    value: Any = row.get(column.key)
    if value is None:
        return "-"
    if column.form == ESTIMATE:
        low, high = row[f"{column.key}_low"], row[f"{column.key}_high"]
        return f"{value:.2f} ({low:.2f} to {high:.2f})"
    return str(value) if column.form in (TEXT, CODE) else format(value, column.form)
