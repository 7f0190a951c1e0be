"""Names as labels of figures: printable and of limited length; none is read as a formula."""

from __future__ import annotations

import textwrap
from typing import Any

NO_FORMULAS: dict[Any, Any] = {"text.parse_math": False}  # Matplotlib's setting while text is made
LINE_LENGTH = 34  # letters in a line of a legend
ROW_LENGTH = 24  # letters of a heat map's row


def legend_label(name: str) -> str:
    """Name in up to three lines of a legend.

    A zero-width space keeps names that begin with an underscore, which Matplotlib leaves out.
    """
    text = _printable(name)
    lines = textwrap.wrap(text, LINE_LENGTH)
    shown = [*lines[:2], f"{lines[2][:-1]}…"] if len(lines) > 3 else lines
    return ("\u200b" if text.startswith("_") else "") + "\n".join(shown)


def row_label(name: str) -> str:
    """Name of a heat map's row, in one line."""
    text = _printable(name)
    return text if len(text) <= ROW_LENGTH else f"{text[: ROW_LENGTH - 1]}…"


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in name)
