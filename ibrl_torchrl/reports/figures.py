"""Figures of a comparison."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from itertools import count
from operator import attrgetter
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ibrl_torchrl.reports.comparison import JUDGED, Comparison
from ibrl_torchrl.reports.curves import Curve, curve
from ibrl_torchrl.reports.diagnosis_tables import Diagnosis, advantage, by_part, is_imitation
from ibrl_torchrl.runs.reader import EvalPoint

# What of an evaluation is drawn.
_SUCCESS, _IL_SHARE = attrgetter("success"), attrgetter("il_share")
# Told apart by people with any colour vision and, by their dashes, on black-and-white paper.
_COLOURS = ["#0b6e99", "#c8553d", "#5a8f3d", "#8a5aa8", "#b8860b", "#4a4a4a", "#2aa198", "#d33682"]
_DASHES = ["-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1))]


def learning_curves(comparison: Comparison, methods: Collection[str] | None = None) -> Figure:
    """Success against frames; the BC policies as a line.

    Args:
        comparison: whose every method keeps its colour, whichever are drawn.
        methods: names of those to draw, with their variants; None draws all.
    """
    figure, axes = _canvas("success rate")
    for number, (label, runs) in enumerate(comparison.methods.items()):
        if methods is None or runs[0].method in methods:
            _draw(axes, number, label, curve(comparison, runs, JUDGED))
    scores = [run.success("bc") for run in comparison.runs]
    axes.axhline(
        sum(scores) / len(scores), color="#9a9a9a", linewidth=1, label="BC policies (mean)"
    )
    return _finished(figure, axes)


def hybrid_against_rl(comparison: Comparison) -> Figure | None:
    """The paper's Fig. 11: the hybrid, and the RL actor of the same runs alone."""
    return _of_proposing(
        comparison,
        "success rate",
        [
            ("hybrid", JUDGED, _SUCCESS),
            ("RL actor alone", "rl", _SUCCESS),
        ],
    )


def il_share(comparison: Comparison) -> Figure | None:
    """The paper's Fig. 12: the share of imitation actions while the hybrid is evaluated."""
    return _of_proposing(comparison, "share of imitation actions", [("", JUDGED, _IL_SHARE)])


def proposals_by_part(found: Sequence[Diagnosis]) -> Figure:
    """Where in an episode imitation actions are executed, and what the critics think of them."""
    figure = Figure(figsize=(7.2, 3.4), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    share, gain = figure.subplots(1, 2)
    for number, each in enumerate(found):
        look = _look(number) | {"label": f"{each.method}, seed {each.seed}", "linewidth": 1.4}
        share.plot(*by_part(each, is_imitation), **look)
        gain.plot(*by_part(each, advantage), **look)
    share.set(xlabel="part of the episode", ylabel="share of imitation actions", ylim=(-0.02, 1.02))
    gain.set(xlabel="part of the episode", ylabel="Q(imitation) - Q(RL)")
    gain.axhline(0, color="#9a9a9a", linewidth=1)
    for axes in (share, gain):
        axes.grid(alpha=0.2)
    figure.legend(
        *share.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3
    )
    return figure


def as_svg(figure: Figure) -> str:
    """A figure as an ``<svg>`` element, the same for the same numbers."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "ibrl", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _of_proposing(
    comparison: Comparison,
    label: str,
    lines: list[tuple[str, str, Callable[[EvalPoint], float]]],
) -> Figure | None:
    """Lines of each method that lets the BC policy propose while acting; None without one."""
    figure, axes = _canvas(label)
    number = count()
    for method, runs in comparison.methods.items():
        if all(run.config["algo"]["acting"] == "rl" for run in runs):
            continue
        for name, policy, figure_of in lines:
            drawn = curve(comparison, runs, policy, figure_of)
            _draw(axes, next(number), f"{method}: {name}" if name else method, drawn)
    return _finished(figure, axes) if axes.lines else None


def _canvas(label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 4.2), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(xlabel="environment steps (after action repeat)", ylabel=label, ylim=(-0.02, 1.02))
    axes.grid(alpha=0.2)
    return figure, axes


def _draw(axes: Axes, number: int, label: str, drawn: Curve | None) -> None:
    if drawn is None:
        return
    look = _look(number)
    axes.plot(
        drawn.frames,
        [estimate.value for estimate in drawn.estimates],
        linewidth=1.8,
        label=label,
        **look,
    )
    axes.fill_between(
        drawn.frames,
        [estimate.low for estimate in drawn.estimates],
        [estimate.high for estimate in drawn.estimates],
        color=look["color"],
        alpha=0.13,
        linewidth=0,
    )


def _look(number: int) -> dict[str, Any]:
    """The colour and dashes of a figure's line of some number."""
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "linestyle": _DASHES[number % len(_DASHES)],
    }


def _finished(figure: Figure, axes: Axes) -> Figure:
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, loc="outside right upper")
    return figure
