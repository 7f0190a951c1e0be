"""Figures within the page: SVG elements with unique identifiers, and data for hovering."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ibrl_torchrl.reports.charts import Chart
from ibrl_torchrl.reports.drawing import draw
from ibrl_torchrl.reports.figures import FILE_SETTINGS
from ibrl_torchrl.reports.heat_maps import HeatMap
from ibrl_torchrl.reports.style import PAGE

_FONTS = re.compile(r"(?<=; )font-family: [^;\"]*; ?")  # the page has its own
_REFERENCES = re.compile(r'(id="|url\(#|href="#)')
_GROUP = re.compile(r'<g id="[^"]*?(?:line|band)-(\d+)"')


def embed(content: Chart | HeatMap, prefix: str) -> dict[str, Any]:
    """Figure for the page's template.

    Args:
        content: chart or heat map.
        prefix: begins each identifier, which are unique in a page.

    Returns:
        ``heading`` and ``caption``; ``id``; ``svg``, an element; ``meanings`` of dashes; ``data``
        of lines and axes for the page's script, None for heat maps.
    """
    identifier = f"{prefix}-{content.name}"
    rows = len(content.labels) if isinstance(content, HeatMap) else 0
    style = replace(PAGE, height=max(PAGE.height, 0.25 * rows + 0.5))
    figure = draw(content, style, has_legend=False)
    svg = to_svg(figure, identifier, f"{content.heading}. {content.caption}")
    embedded: dict[str, Any] = {
        "heading": content.heading,
        "caption": content.caption,
        "id": identifier,
        "svg": svg,
        "meanings": (),
        "data": None,
    }
    if isinstance(content, Chart):
        methods = [line.method for line in content.lines]
        embedded |= {
            "svg": _GROUP.sub(lambda group: _with_method(group, methods), svg),
            "meanings": content.meanings,
            "data": _data(figure, content),
        }
    return embedded


def to_svg(figure: Figure, prefix: str, label: str) -> str:
    """Figure as an ``<svg>`` element; the same text for the same numbers.

    Args:
        figure: figure to write.
        prefix: begins each identifier.
        label: text for readers who do not see it.
    """
    text = io.StringIO()
    with matplotlib.rc_context(FILE_SETTINGS):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    svg = _FONTS.sub("", svg)
    svg = _REFERENCES.sub(rf"\g<1>{prefix}-", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1)


def _with_method(group: re.Match[str], methods: Sequence[int]) -> str:
    return f'{group.group()} data-method="{methods[int(group.group(1))]}"'


def _data(figure: Figure, chart: Chart) -> dict[str, Any]:
    """Points of the lines, and where the axes are: limits in data and fractions of the figure."""
    (axes,) = figure.axes
    box = axes.get_position()
    return {
        "x": [round(limit, 6) for limit in axes.get_xlim()],
        "box": [round(edge, 4) for edge in (box.x0, 1 - box.y1, box.x1, 1 - box.y0)],
        "axis": chart.x_label,
        "lines": [
            {
                "label": line.label,
                "colour": line.style.colour,
                "x": [round(x, 4) for x in line.curve.x],
                "y": [[round(number, 3) for number in e] for e in line.curve.estimates],
            }
            for line in chart.lines
        ],
    }
