"""Names as labels of figures: of limited length, and none is read as a formula."""

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
    lines = textwrap.wrap(name, LINE_LENGTH)
    shown = [*lines[:2], f"{lines[2][:-1]}…"] if len(lines) > 3 else lines
    return ("\u200b" if name.startswith("_") else "") + "\n".join(shown)


def row_label(name: str) -> str:
    """Name of a heat map's row, in one line."""
    return name if len(name) <= ROW_LENGTH else f"{name[: ROW_LENGTH - 1]}…"
