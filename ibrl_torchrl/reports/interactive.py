"""Interactive learning curves by Bokeh, an optional extra, for a page that loads nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ibrl_torchrl.errors import require_extra
from ibrl_torchrl.keys import HYBRID
from ibrl_torchrl.reports.charts import Chart, Line, Reference
from ibrl_torchrl.reports.comparison import Comparison
from ibrl_torchrl.reports.labels import row_label
from ibrl_torchrl.runs.reader import Run

HEADING = "Learning curves, interactive"
# Bokeh's names of Matplotlib's markers.
_MARKERS = {
    "o": "circle",
    "s": "square",
    "^": "triangle",
    "D": "diamond",
    "v": "inverted_triangle",
    "P": "plus",
    "*": "star",
}
_TOOLTIPS = [
    ("method", "@method"),
    ("run", "@run"),
    ("frames", "@frames{0,0}"),
    ("success", "@success{0.00} (@low{0.00} to @high{0.00})"),
]
_MOST_TOOLTIPS = 4  # points under the pointer that are named
_LEGEND_WIDTH = 36  # letters, on a phone
_MOST_LEGEND_COLUMNS = 3

Columns = dict[str, list[Any]]


def require_library() -> None:
    """Check that Bokeh is installed.

    Raises:
        UsageError: it is not; the message has the install command.
    """
    require_extra("bokeh", "report")


def library() -> str:
    """Bokeh's script, which draws the curves in a browser and loads nothing."""
    from bokeh.resources import Resources

    return "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)


def interactive_curves(comparison: Comparison, chart: Chart, prefix: str) -> dict[str, Any]:
    """Figure of learning curves and of each run, for Bokeh's ``embed_item``.

    The pointer names method, seed, frames and success with its 95 % interval: Wilson's of a run's
    evaluation, the chart's of a method. A click in the legend hides a method. Colours, markers and
    order are those of the chart.

    Args:
        comparison: runs of the chart's methods.
        chart: learning curves of the comparison.
        prefix: begins each identifier, which are unique in a page.

    Returns:
        Values as for JSON, the same for the same numbers.
    """
    from bokeh.embed import json_item
    from bokeh.models import HoverTool, Legend, NumeralTickFormatter
    from bokeh.plotting import figure

    labels = [row_label(reference.label) for reference in chart.references]
    labels += [row_label(line.label) for line in chart.lines]
    legend_columns = _LEGEND_WIDTH // max(map(len, labels))
    legend_columns = max(1, min(legend_columns, _MOST_LEGEND_COLUMNS))
    plot = figure(
        height=360 + 28 * math.ceil(len(labels) / legend_columns),
        sizing_mode="stretch_width",
        x_axis_label=chart.x_label,
        y_axis_label=chart.y_label,
        y_range=(-0.02, 1.02),
        tools="pan,box_zoom,wheel_zoom,reset",
        active_drag=None,  # a finger on the figure scrolls the page
    )
    plot.toolbar.logo = None
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    plot.grid.grid_line_alpha = 0.4
    methods = [*comparison.methods.values()]
    renderers = [[_reference(plot, each, comparison.frames)] for each in chart.references]
    points = []
    for line in chart.lines:
        drawn, named = _method(plot, line, methods[line.method])
        renderers.append(drawn)
        points += named
    plot.add_tools(HoverTool(renderers=points, tooltips=_TOOLTIPS, limit=_MOST_TOOLTIPS))
    legend = Legend(
        items=[*map(_entry, labels, renderers)],
        click_policy="hide",
        ncols=legend_columns,
        spacing=8,
        location="left",
        border_line_color=None,
    )
    plot.add_layout(legend, "below")
    return _renumbered(json_item(plot, f"{prefix}-plot"), prefix)


def _method(plot: Any, line: Line, runs: Sequence[Run]) -> tuple[list[Any], list[Any]]:
    """Draw a method; returns its renderers, and those whose points the pointer names."""
    colour, marker = line.style.colour, _MARKERS[line.style.marker]
    estimates = line.curve.estimates
    mean: Columns = {
        "frames": [*line.curve.x],
        "success": [round(estimate.value, 4) for estimate in estimates],
        "low": [round(estimate.low, 4) for estimate in estimates],
        "high": [round(estimate.high, 4) for estimate in estimates],
        "method": [line.label] * len(estimates),
        "run": [f"mean of {len(runs)}"] * len(estimates),
    }
    each: Columns = {name: [] for name in mean}
    for run in runs:
        for point in run.curves[HYBRID]:
            each["frames"].append(point.frames)
            each["success"].append(point.success)
            each["low"].append(point.low)
            each["high"].append(point.high)
            each["method"].append(line.label)
            each["run"].append(f"seed {run.seed}")
    band = plot.varea(x=mean["frames"], y1=mean["low"], y2=mean["high"], color=colour, alpha=0.13)
    thin = plot.multi_line(
        xs=[[point.frames for point in run.curves[HYBRID]] for run in runs],
        ys=[[point.success for point in run.curves[HYBRID]] for run in runs],
        color=colour,
        alpha=0.35,
    )
    bold = plot.line(x=mean["frames"], y=mean["success"], color=colour, width=2.4)
    small, large = (
        plot.scatter(
            x="frames", y="success", source=columns, marker=marker, size=size, color=colour
        )
        for columns, size in ((_source(each), 4), (_source(mean), 8))
    )
    return [band, thin, bold, small, large], [large, small]


def _source(columns: Columns) -> Any:
    from bokeh.models import ColumnDataSource

    return ColumnDataSource(columns)


def _reference(plot: Any, reference: Reference, frames: int) -> Any:
    dashes = [max(1, round(2 * length)) for length in reference.style.dashes]
    return plot.line(
        x=[0, frames],
        y=[reference.value] * 2,
        color=reference.style.colour,
        line_dash=dashes or "solid",
        width=1.5,
    )


def _entry(label: str, renderers: Sequence[Any]) -> Any:
    """Entry of the legend; the label is text, never the name of a column."""
    from bokeh.core.properties import value
    from bokeh.models import LegendItem

    return LegendItem(label=value(label), renderers=[*renderers])


def _renumbered(item: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Item whose identifiers, which Bokeh counts from the start of the process, begin at 0."""
    names: dict[str, str] = {}

    def renumber(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {
                key: names.setdefault(value, f"{prefix}-{len(names)}")
                if key in ("id", "root_id")
                else renumber(value)
                for key, value in part.items()
            }
        return [*map(renumber, part)] if isinstance(part, (list, tuple)) else part

    renumbered: dict[str, Any] = renumber(item)
    return renumbered
