"""Colours, dashes and markers of figures, each with one meaning.

Colours are those of Okabe and Ito (2008), https://jfly.uni-koeln.de/color/: under deuteranopia,
protanopia and tritanopia (Machado et al., 2009) any two of the methods' are at least 16 apart in
CIELAB; two colours less than about 10 apart are hard to tell. In shades of grey some of them are
alike: markers tell those apart.
"""

from __future__ import annotations

from typing import NamedTuple

# Blue, orange, bluish green, vermillion, reddish purple, sky blue. Yellow is too pale for a line.
METHODS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
REFERENCE = "#000000"  # imitation policies, which are no method's

Dashes = tuple[float, ...]  # lengths of dashes and gaps in units of the line's width; (): solid
SOLID: Dashes = ()
DASHED: Dashes = (4, 2)
_DOTS: tuple[Dashes, ...] = ((1.2, 2), (6, 1.5, 1, 1.5), (6, 1.5, 1, 1.5, 1, 1.5), (9, 2))
# One more than colours: neighbours differ in both, and a pair returns after 42 methods only.
_MARKERS = ("o", "s", "^", "D", "v", "P", "*")


class LineStyle(NamedTuple):
    """Style of a line.

    Attributes:
        colour: hexadecimal, such as ``"#0072B2"``.
        dashes: lengths of dashes and gaps; empty for a solid line.
        marker: Matplotlib's marker; empty for none.
    """

    colour: str
    dashes: Dashes = SOLID
    marker: str = ""


def method_style(number: int, dashes: Dashes = SOLID) -> LineStyle:
    """Style of a method's line: colour and marker tell which, dashes the policy.

    Args:
        number: number of the method in its comparison, from 0.
        dashes: tell which policy, see :func:`imitation_dashes`; default the hybrid's.
    """
    return LineStyle(METHODS[number % len(METHODS)], dashes, _MARKERS[number % len(_MARKERS)])


def imitation_dashes(number: int) -> Dashes:
    """Dashes of the imitation policy of some number, from 0."""
    return _DOTS[number % len(_DOTS)]
