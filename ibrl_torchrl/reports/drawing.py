"""Figures of charts and heat maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ibrl_torchrl.reports.charts import Chart, Line, Reference
from ibrl_torchrl.reports.heat_maps import HeatMap
from ibrl_torchrl.reports.labels import legend_label, row_label
from ibrl_torchrl.reports.palette import LineStyle
from ibrl_torchrl.reports.style import FigureStyle

# Greys, so that colours mean methods only.
_GREYS = LinearSegmentedColormap.from_list("greys", ["#ffffff", "#333333"])
_MOST_ENTRIES = 24  # of a legend
_MOST_MARKERS = 12  # of a line
_LETTER = 0.55  # mean width of a letter in units of the font's size


def draw(content: Chart | HeatMap, style: FigureStyle, *, has_legend: bool = True) -> Figure:
    """Figure of a chart or of a heat map.

    Args:
        content: what to draw. Names are drawn as they are: none is interpreted as a formula.
        style: size and font.
        has_legend: whether a chart's lines are named below it.

    Returns:
        Figure whose lines and bands have the groups ``line-N`` and ``band-N`` in an SVG.
    """
    with matplotlib.rc_context(style.rc):
        figure = Figure(figsize=(style.width, style.height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        if isinstance(content, HeatMap):
            _draw_heat_map(axes, content, style)
        else:
            _draw_chart(axes, content)
            if has_legend:
                _add_legend(figure, axes, style)
        return figure


def _draw_chart(axes: Axes, chart: Chart) -> None:
    axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
    if chart.is_share:
        axes.set_ylim(-0.02, 1.02)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.grid(alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    for reference in chart.references:
        _draw_reference(axes, reference)
    for number, line in enumerate(chart.lines):
        _draw_line(axes, number, line)


def _draw_line(axes: Axes, number: int, line: Line) -> None:
    """Draw a curve with its interval as a band; lines that coincide have their markers in turn."""
    curve = line.curve
    spacing = math.ceil(len(curve.x) / _MOST_MARKERS)
    (drawn,) = axes.plot(
        curve.x,
        [estimate.value for estimate in curve.estimates],
        label=legend_label(line.label),
        linewidth=1.6,
        color=line.style.colour,
        linestyle=_line_style(line.style),
        marker=line.style.marker,
        markersize=4,
        markevery=(number % spacing, spacing),
    )
    drawn.set_gid(f"line-{number}")
    band = axes.fill_between(
        curve.x,
        [estimate.low for estimate in curve.estimates],
        [estimate.high for estimate in curve.estimates],
        color=line.style.colour,
        alpha=0.13,
        linewidth=0,
    )
    band.set_gid(f"band-{number}")


def _draw_reference(axes: Axes, reference: Reference) -> None:
    axes.axhline(
        reference.value,
        label=legend_label(reference.label) if reference.label else None,
        linewidth=1.2,
        color=reference.style.colour,
        linestyle=_line_style(reference.style),
    )


def _line_style(style: LineStyle) -> str | tuple[float, Sequence[float]]:
    return (0, style.dashes) if style.dashes else "-"


def _draw_heat_map(axes: Axes, heat_map: HeatMap, style: FigureStyle) -> None:
    """Draw numbers on greys; columns have the numbers of the rows, for names are long."""
    names = heat_map.labels
    values = np.array([[heat_map.values.get((x, y), np.nan) for y in names] for x in names])
    # Rectangles, not an image: the page allows none, and they are sharp at any size.
    axes.pcolormesh(values, cmap=_GREYS, vmin=0, vmax=1, edgecolors="white", linewidth=1)
    axes.invert_yaxis()
    middles = np.arange(len(names)) + 0.5
    numbers = [str(number) for number in range(1, len(names) + 1)]
    named = zip(names, numbers, strict=True)
    axes.set_yticks(middles, [f"{row_label(name)}  {number}" for name, number in named])
    axes.set_xticks(middles, numbers)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    cell = min(0.6 * style.width, style.height) * 72 / len(names)
    for (x, y), value in heat_map.values.items():
        axes.text(
            middles[names.index(y)],
            middles[names.index(x)],
            f"{100 * value:.0f}",
            ha="center",
            va="center",
            color="white" if value > 0.65 else "black",
            weight="bold" if (x, y) in heat_map.certain else "normal",
            fontsize=min(style.font_size, cell / 2.4),
        )


def _add_legend(figure: Figure, axes: Axes, style: FigureStyle) -> None:
    """Name the lines below the axes, in as many columns as the width has room for."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    left_out = len(handles) - _MOST_ENTRIES
    if left_out > 0:
        labels[_MOST_ENTRIES - 1] += f" (and {left_out} more)"
        handles, labels = handles[:_MOST_ENTRIES], labels[:_MOST_ENTRIES]
    letters = max(len(part) for label in labels for part in label.split("\n")) + 6
    columns = int(72 * style.width / (_LETTER * style.font_size * letters))
    figure.legend(
        handles,
        labels,
        frameon=False,
        loc="outside lower center",
        ncols=max(1, min(columns, len(labels))),
        handlelength=2.6,
    )
