"""Figures of a comparison and of a single run."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ibrl_torchrl.files import atomic_path
from ibrl_torchrl.keys import HYBRID, RL
from ibrl_torchrl.reports.comparison import Comparison
from ibrl_torchrl.reports.curves import Curve, method_curve, share_of
from ibrl_torchrl.reports.diagnosis_tables import (
    Diagnosis,
    advantage_of,
    episode_profile,
    execution_of,
)
from ibrl_torchrl.runs.reader import Run

# Distinguishable with any colour vision and, by their dashes, in greyscale.
_COLOURS = ["#0b6e99", "#c8553d", "#5a8f3d", "#8a5aa8", "#b8860b", "#4a4a4a", "#2aa198", "#d33682"]
_DASHES = ["-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1))]
_REFERENCE = "#9a9a9a"
_THICKEST = 4.5  # points, of the first line of a single run
_FRAMES = "environment steps (after action repeat)"


def run_figure(run: Run) -> Figure:
    """Success of one run's hybrid, RL actor and imitation policies against frames.

    Each evaluation is drawn at its own frame, with a marker and its 95 % interval. Lines get
    thinner from the first to the last, so that those that coincide all stay visible. The run may
    be unfinished.
    """
    figure, axes = _canvas("success rate")
    labels = {HYBRID: "hybrid", RL: "RL actor"}
    for number, policy in enumerate((HYBRID, RL, *run.imitation)):
        points = run.curves.get(policy)
        if points:
            frames, style = [point.frames for point in points], _line_style(number)
            thickness = max(_THICKEST * 0.55**number, 1.0)
            axes.plot(
                frames,
                [point.success for point in points],
                label=_literal(labels.get(policy, policy)),
                linewidth=thickness,
                marker="o",
                markersize=3 + thickness,
                **style,
            )
            _draw_interval(
                axes,
                frames,
                [point.low for point in points],
                [point.high for point in points],
                style["color"],
            )
    axes.set_title(_literal(f"{run.task}: {run.method}, seed {run.seed}"), fontsize="medium")
    return _add_legend(figure, axes)


def learning_curves(comparison: Comparison, methods: Collection[str] | None = None) -> Figure:
    """Success of each method's hybrid against frames; mean of each imitation policy as a line.

    Args:
        comparison: runs; a method has the same colour whichever methods are drawn.
        methods: names of the methods to draw, with their variants; default all.
    """
    figure, axes = _canvas("success rate")
    for number, (label, runs) in enumerate(comparison.methods.items()):
        if methods is None or runs[0].method in methods:
            _draw(axes, number, label, method_curve(comparison, runs, HYBRID))
    for number, name in enumerate(comparison.imitation):
        scores = [run.success(name) for run in comparison.runs if name in run.final]
        if scores:
            axes.axhline(
                sum(scores) / len(scores),
                color=_REFERENCE,
                linestyle=_DASHES[number % len(_DASHES)],
                linewidth=1,
                label=_literal(f"{name} (mean of runs)"),
            )
    return _add_legend(figure, axes)


def hybrid_and_rl(comparison: Comparison) -> Figure | None:
    """Success of the hybrid and of the same runs' RL actors (paper, Fig. 11).

    Of methods whose imitation policies propose while acting; None without one.
    """
    figure, axes = _canvas("success rate")
    numbers = count()
    for method, runs in comparison.methods.items():
        if _acting_imitation(runs):
            for label, policy in (("hybrid", HYBRID), ("RL actor", RL)):
                drawn = method_curve(comparison, runs, policy)
                _draw(axes, next(numbers), f"{method}: {label}", drawn)
    return _add_legend(figure, axes) if axes.lines else None


def imitation_share(comparison: Comparison) -> Figure | None:
    """Share of each imitation policy among the hybrid's actions in evaluations (paper, Fig. 12).

    Of methods whose imitation policies propose while acting; None without one.
    """
    figure, axes = _canvas("share of imitation actions")
    numbers = count()
    for method, runs in comparison.methods.items():
        names = _acting_imitation(runs)
        for name in names:
            drawn = method_curve(comparison, runs, HYBRID, share_of(name))
            _draw(axes, next(numbers), f"{method}: {name}" if len(names) > 1 else method, drawn)
    return _add_legend(figure, axes) if axes.lines else None


def diagnosis_figure(diagnoses: Sequence[Diagnosis]) -> Figure:
    """Share and advantage of imitation actions over an episode, one line a run and policy."""
    figure = Figure(figsize=(7.2, 3.4), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    share, advantage = figure.subplots(1, 2)
    lines = [(diagnosis, name) for diagnosis in diagnoses for name in diagnosis.imitation]
    is_single = all(len(diagnosis.imitation) <= 1 for diagnosis in diagnoses)
    for number, (diagnosis, name) in enumerate(lines):
        label = f"{diagnosis.method}, seed {diagnosis.seed}"
        style = _line_style(number) | {
            "label": _literal(label if is_single else f"{label}: {name}"),
            "linewidth": 1.4,
        }
        share.plot(*episode_profile(diagnosis, execution_of(name)), **style)
        advantage.plot(*episode_profile(diagnosis, advantage_of(name)), **style)
    part = "fraction of the episode"
    share.set(xlabel=part, ylabel="share of imitation actions", ylim=(-0.02, 1.02))
    advantage.set(xlabel=part, ylabel="Q(imitation) - Q(RL)")
    advantage.axhline(0, color=_REFERENCE, linewidth=1)
    for axes in (share, advantage):
        axes.grid(alpha=0.2)
    figure.legend(
        *share.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3
    )
    return figure


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure to a PNG file, whole or not at all.

    Raises:
        UsageError: the folder cannot be written to.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def to_svg(figure: Figure) -> str:
    """Figure as an ``<svg>`` element; the same text for the same numbers."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "ibrl", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _acting_imitation(runs: Sequence[Run]) -> list[str]:
    """Names of the imitation policies that propose while the runs' hybrids act."""
    return list(dict.fromkeys(name for run in runs for name in run.acting_proposals if name != RL))


def _canvas(label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 4.2), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(xlabel=_FRAMES, ylabel=label, ylim=(-0.02, 1.02))
    axes.grid(alpha=0.2)
    return figure, axes


def _draw(axes: Axes, number: int, label: str, curve: Curve | None) -> None:
    """Draw a curve, if there is one, with its interval as a band."""
    if curve is None:
        return
    style = _line_style(number)
    axes.plot(
        curve.frames,
        [estimate.value for estimate in curve.estimates],
        linewidth=1.8,
        label=_literal(label),
        marker="o" if len(curve.frames) == 1 else None,
        **style,
    )
    _draw_interval(
        axes,
        curve.frames,
        [estimate.low for estimate in curve.estimates],
        [estimate.high for estimate in curve.estimates],
        style["color"],
    )


def _draw_interval(
    axes: Axes,
    frames: Sequence[int],
    low: Sequence[float],
    high: Sequence[float],
    colour: str,
) -> None:
    """Draw intervals as a band."""
    axes.fill_between(frames, low, high, color=colour, alpha=0.13, linewidth=0)


def _literal(text: str) -> str:
    """Text that Matplotlib does not typeset as mathematics, nor leaves out of a legend."""
    shown = text.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def _line_style(number: int) -> dict[str, Any]:
    """Colour and dashes of a figure's line by its number."""
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "linestyle": _DASHES[number % len(_DASHES)],
    }


def _add_legend(figure: Figure, axes: Axes) -> Figure:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, frameon=False, loc="outside right upper")
    return figure
