"""Size and font of figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib import font_manager

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.reports.labels import NO_FORMULAS

FORMATS = ("svg", "pdf", "png")
_FAMILIES = ("sans-serif", "serif", "monospace")


@dataclass(frozen=True)
class FigureStyle:
    """Size, font and file formats of figures.

    Attributes:
        width: in inches, default 5.5, the width of a one-column page.
        height: in inches, default 3.4.
        font: name of a font or ``"sans-serif"``, ``"serif"`` or ``"monospace"``.
        font_size: in points, default 8.
        formats: of ``"svg"``, ``"pdf"`` and ``"png"``.

    Raises:
        UsageError: this machine does not have the font.
    """

    width: float = 5.5
    height: float = 3.4
    font: str = "sans-serif"
    font_size: float = 8.0
    formats: tuple[str, ...] = FORMATS

    def __post_init__(self) -> None:
        if self.font in _FAMILIES:
            return
        try:
            font_manager.findfont(self.font, fallback_to_default=False)
        except ValueError as error:
            raise UsageError(
                f"figures.font={self.font} is not a font of this machine; name another one, or "
                "sans-serif, serif or monospace"
            ) from error

    @property
    def rc(self) -> dict[Any, Any]:
        """Matplotlib's settings while a figure is made. Names are text: ``$`` begins no formula."""
        return {
            "font.family": self.font,
            "font.size": self.font_size,
            "axes.titlesize": "medium",
            **NO_FORMULAS,
            "text.usetex": False,
            "figure.dpi": 200,
        }


# Figures within a page: letters are readable at the width of a phone.
PAGE = FigureStyle(width=4.8, height=3.0, font_size=9.0, formats=())
