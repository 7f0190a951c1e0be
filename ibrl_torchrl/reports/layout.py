"""Columns of the page's tables: keys, headings, formats and which value is the best."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from ibrl_torchrl.keys import HYBRID, RL
from ibrl_torchrl.reports.run_tables import THRESHOLDS, Row, length_column, success_column
from ibrl_torchrl.runs.tables import share_column

# Forms of columns, beside format specifications. Texts are classes of the page's style sheet.
TEXT = "text"
CODE = "code"  # monospaced
LINKS = "links"
ESTIMATE = "estimate"  # value and interval
CROSSING = "crossing"  # median frames, and of how many runs unless of all
HIGH, LOW = "high", "low"
_WORDS = re.compile(r"(?<=[._=])(?=[A-Za-z])")  # of names such as algo.update.lr


class Column(NamedTuple):
    """Column of a table.

    Attributes:
        key: entry of a row.
        heading: text above the column.
        form: ``TEXT``, ``CODE``, ``LINKS``, ``ESTIMATE``, ``CROSSING`` or a format specification.
        best: ``HIGH`` or ``LOW`` where the highest or lowest value is marked; default none.
    """

    key: str
    heading: str
    form: str
    best: str | None = None

    @property
    def is_text(self) -> bool:
        """Whether entries are text, aligned to the left."""
        return self.form in (TEXT, CODE, LINKS)


_METHOD = Column("method", "method", TEXT)
_RUNS = Column("runs", "runs", "d")
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
        "results": [
            _METHOD,
            Column("success", "success", ESTIMATE, HIGH),
            Column("while_learning", "while learning", ESTIMATE, HIGH),
            Column("dip", "dip", ESTIMATE, LOW),
            *(
                Column(f"frames_to_{threshold}", f"frames to {threshold / 100:g}", CROSSING, LOW)
                for threshold in THRESHOLDS
            ),
            _RUNS,
        ],
        "policies": [
            _METHOD,
            Column("success", "hybrid", ".2f"),
            *policies,
            *(Column(share_column("acting", n), f"share of {n}", ".2f") for n in imitation),
            Column(length_column(HYBRID), "length: hybrid", ".1f", LOW),
            *(Column(length_column(name), name, ".1f") for name in imitation),
            Column("episodes", "episodes", "d"),
        ],
        "diagnosis": [_METHOD, _RUNS, *_diagnosis_columns(imitation)],
        "diagnosed_runs": [_METHOD, _SEED, *_diagnosis_columns(imitation)],
        "all_settings": [Column("setting", "setting", TEXT), Column("value", "value", CODE)],
        "runs": [
            _SEED,
            Column("success", "success", ".2f"),
            Column("while_learning", "while learning", ".2f"),
            Column("dip", "dip", ".2f"),
            *policies,
            *(
                column
                for threshold in THRESHOLDS
                for column in (
                    Column(f"frames_to_{threshold}", f"frames to {threshold / 100:g}", ",.0f"),
                    Column(f"minutes_to_{threshold}", "min.", ".1f"),
                )
            ),
            Column(length_column(HYBRID), "length", ".1f"),
            Column("minutes", "minutes", ".1f"),
            Column("commit", "commit", TEXT),
            Column("links", "files", LINKS),
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


def format_cell(row: Row, column: Column) -> Markup:
    """HTML of a row's entry, names escaped; a dash where it is None."""
    value: Any = row.get(column.key)
    if value is None:
        return Markup("-")
    if column.form == LINKS:
        return Markup(" ").join(
            Markup('<a href="{}">{}</a>').format(link.url, link.text) for link in value
        )
    if column.is_text:
        return _breakable(str(value)) if column.form == TEXT else escape(str(value))
    text = _number(value, column)
    if column.form == ESTIMATE:
        low, high = row[f"{column.key}_low"], row[f"{column.key}_high"]
        return Markup('{} <span class="quiet">({:.2f} to {:.2f})</span>').format(text, low, high)
    if column.form == CROSSING:
        reached = row[column.key.replace("frames", "runs")]
        if reached < row["runs"]:
            return Markup('{} <span class="quiet">({} of {})</span>').format(
                text, reached, row["runs"]
            )
    return escape(text)


def _breakable(name: str) -> Markup:
    """HTML of a name, which a narrow column may break before words."""
    return Markup("<wbr>").join(_WORDS.split(name))


def best_texts(rows: Sequence[Row], table: Sequence[Column]) -> dict[str, str]:
    """Best value of each column that has one, as it is shown; empty where all are equal.

    Values that are shown alike are equally good.
    """
    best = {}
    for column in table:
        values = [row[column.key] for row in rows if row.get(column.key) is not None]
        if column.best is None or len({_number(value, column) for value in values}) < 2:
            continue
        best[column.key] = _number((max if column.best == HIGH else min)(values), column)
    return best


def is_best(row: Row, column: Column, best: dict[str, str]) -> bool:
    """Whether an entry is the best of its column, see :func:`best_texts`."""
    value = row.get(column.key)
    return value is not None and best.get(column.key) == _number(value, column)


def sort_key(row: Row, column: Column) -> str:
    """Number by which the page's script sorts an entry; empty for text and for None."""
    value = row.get(column.key)
    return "" if value is None or column.is_text else f"{value:.6g}"


def _number(value: Any, column: Column) -> str:
    return format(value, {ESTIMATE: ".2f", CROSSING: ",.0f"}.get(column.form, column.form))
