"""Figure of a single run, and figure files."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ibrl_torchrl.files import atomic_path
from ibrl_torchrl.keys import HYBRID, RL
from ibrl_torchrl.reports.labels import NO_FORMULAS, legend_label
from ibrl_torchrl.reports.palette import (
    DASHED,
    METHODS,
    REFERENCE,
    SOLID,
    Dashes,
    imitation_dashes,
)
from ibrl_torchrl.runs.reader import Run

_THICKEST = 4.5  # points, of the first line of a single run
# Text stays text in SVG files; fonts in PDF files are TrueType, as publishers want.
FILE_SETTINGS: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "ibrl", "pdf.fonttype": 42}
# Without a date, so that the same numbers give the same file.
_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


def run_figure(run: Run) -> Figure:
    """Success of one run's hybrid, RL actor and imitation policies against frames.

    Each evaluation is drawn at its own frame, with a marker and its 95 % interval. Lines get
    thinner from the first to the last, so that those that coincide all stay visible. The run may
    be unfinished.
    """
    with matplotlib.rc_context(NO_FORMULAS):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained", dpi=150)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set(
            xlabel="environment steps (after action repeat)",
            ylabel="success rate",
            ylim=(-0.02, 1.02),
        )
        axes.grid(alpha=0.2)
        for number, (policy, label, colour, dashes) in enumerate(_policy_lines(run)):
            points = run.curves.get(policy)
            if points:
                frames = [point.frames for point in points]
                thickness = max(_THICKEST * 0.55**number, 1.0)
                axes.plot(
                    frames,
                    [point.success for point in points],
                    label=legend_label(label),
                    color=colour,
                    linestyle=(0, dashes) if dashes else "-",
                    linewidth=thickness,
                    marker="o",
                    markersize=3 + thickness,
                )
                lows, highs = [point.low for point in points], [point.high for point in points]
                axes.fill_between(frames, lows, highs, color=colour, alpha=0.13, linewidth=0)
        title = textwrap.wrap(f"{run.task}: {run.method}, seed {run.seed}", 80)
        axes.set_title("\n".join(title[:3]), fontsize="medium")
        handles, labels = axes.get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, frameon=False, loc="outside right upper")
        return figure


def _policy_lines(run: Run) -> Iterator[tuple[str, str, str, Dashes]]:
    """Name, label, colour and dashes of each policy's line."""
    yield HYBRID, "hybrid", METHODS[0], SOLID
    yield RL, "RL actor", METHODS[3], DASHED
    for number, name in enumerate(run.imitation):
        yield name, name, REFERENCE, imitation_dashes(number)


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure to a PNG file, whole or not at all.

    Raises:
        UsageError: the folder cannot be written to.
    """
    save_figure(figure, path, "png")


def save_figure(figure: Figure, path: Path, file_format: str) -> None:
    """Write a figure to a file, whole or not at all; the same file for the same numbers.

    Args:
        figure: figure to write.
        path: file to write or replace.
        file_format: ``"svg"``, ``"pdf"`` or ``"png"``.

    Raises:
        UsageError: the folder cannot be written to.
    """
    with atomic_path(path) as temporary, matplotlib.rc_context(FILE_SETTINGS):
        figure.savefig(temporary, format=file_format, metadata=_METADATA[file_format])
