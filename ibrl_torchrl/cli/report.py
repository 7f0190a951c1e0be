"""``ibrl report FOLDER ...``: runs in folders compared by a page, CSV files and figures."""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.config.commands import ReportConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.reports.page import write_report
from ibrl_torchrl.reports.style import FigureStyle
from ibrl_torchrl.reports.tables import final_table
from ibrl_torchrl.runs.reader import find_runs


def run(config: ReportConfig) -> None:
    """Write the report; print its table of final results and its notes.

    Raises:
        UsageError: there is no run, a run cannot be read, ``out`` cannot be written to, or
            this machine does not have the font.
    """
    figures = config.figures
    style = FigureStyle(
        width=figures.width,
        height=figures.height,
        font=figures.font,
        font_size=figures.font_size,
        formats=tuple(figures.formats),
    )
    runs = find_runs(map(Path, config.runs))
    comparisons = write_report(
        runs, Path(config.out), config.title, style, interactive=config.interactive
    )
    for comparison in comparisons:
        echo(f"{comparison.task}, {comparison.frames} frames")
        for row in final_table(comparison):
            echo(
                f"  {row['method']:24} {row['success']:.2f} "
                f"({row['success_low']:.2f} to {row['success_high']:.2f}) of {row['runs']} runs, "
                f"{row['while_learning']:.2f} while learning"
            )
        for note in comparison.notes:
            echo(f"  note: {note}")
    echo(f"report: {Path(config.out) / 'index.html'}")
