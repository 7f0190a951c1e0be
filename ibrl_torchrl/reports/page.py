"""Report of runs: a self-contained HTML page, tables as CSV files, learning curves as PNG files."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import atomic_path, write_table
from ibrl_torchrl.reports import figures, tables
from ibrl_torchrl.reports.comparison import Comparison, compare
from ibrl_torchrl.reports.diagnosis_tables import diagnosis_table, read_diagnoses
from ibrl_torchrl.reports.layout import TEXT, Column, columns, format_cell
from ibrl_torchrl.reports.statistics import RESAMPLES
from ibrl_torchrl.reports.tables import Row
from ibrl_torchrl.runs.names import VIDEO
from ibrl_torchrl.runs.reader import Run

_TABLES = ("final", "runs", "speed", "lengths", "improvement", "diagnosis", "settings")
# Methods that lack a part of IBRL; beside several other methods they have a figure of their own.
ABLATIONS = {"actor_proposal", "bootstrap_proposal", "td3", "ibrl_no_dropout"}
# Larger videos are not embedded in the page.
MAX_VIDEO_BYTES = 5_000_000


def write_report(runs: Sequence[Run], out: Path, title: str) -> list[Comparison]:
    """Write ``index.html`` and, for each comparison, its tables and learning curves.

    Args:
        runs: runs to compare; those that cannot be compared get separate sections.
        out: folder to create or to write into.
        title: title of the page.

    Returns:
        The comparisons of the page.

    Raises:
        UsageError: ``out`` cannot be written to, or a diagnosis cannot be read.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"out={out}: cannot create this folder ({error.strerror})") from error
    comparisons = compare(runs)
    sections = []
    for number, comparison in enumerate(comparisons, 1):
        prefix = f"{number}-{re.sub('[^A-Za-z0-9]+', '-', comparison.task)}"
        sections.append(_section(comparison))
        _write_tables(sections[-1], out, prefix)
        if comparison.methods:
            figures.save_png(figures.learning_curves(comparison), out / f"{prefix}-curves.png")
    environment = Environment(
        loader=PackageLoader("ibrl_torchrl.reports", "."), autoescape=select_autoescape()
    )
    environment.filters["cell"] = format_cell
    page = environment.get_template("page.html").render(
        title=title,
        runs=len(runs),
        compared=sum(len(comparison.runs) for comparison in comparisons),
        resamples=RESAMPLES,
        sections=sections,
    )
    with atomic_path(out / "index.html") as temporary:
        temporary.write_text(page)
    return comparisons


def _section(comparison: Comparison) -> dict[str, Any]:
    """Tables, figures and texts of a comparison, by the template's names."""
    if not comparison.methods:
        return {"comparison": comparison}
    settings = tables.settings_table(comparison)
    first = comparison.runs[0]
    diagnoses = read_diagnoses(comparison)
    return {
        "comparison": comparison,
        "columns": columns(comparison.imitation),
        "final": tables.final_table(comparison),
        "speed": tables.speed_table(comparison),
        "lengths": tables.length_table(comparison),
        "improvement": tables.improvement_table(comparison),
        "diagnosis": diagnosis_table(diagnoses, comparison.imitation),
        "diagnosis_figure": figures.to_svg(figures.diagnosis_figure(diagnoses))
        if diagnoses
        else None,
        "settings": settings,
        "setting_columns": [Column(key, key, TEXT) for key in (settings[0] if settings else ())],
        "first": f"{first.method}, seed {first.seed}",
        "all_settings": [
            {"setting": name, "value": value}
            for name, value in tables.method_settings(first).items()
        ],
        "runs": tables.run_table(comparison),
        "versions": _versions(comparison),
        "figures": [*_figures(comparison)],
        "videos": [*_videos(comparison)],
    }


def _figures(comparison: Comparison) -> Iterator[tuple[str, str, str]]:
    """Headings, captions and SVG elements of the figures that a comparison has."""
    methods = {run.method for run in comparison.runs}
    ablations, others = methods & ABLATIONS, methods - ABLATIONS
    drawn = [
        (
            "Learning curves",
            "Success of the hybrid policy; of methods without proposals it is the RL actor.",
            figures.learning_curves(comparison, others if len(others) > 1 else methods),
        ),
        (
            "Ablations",
            "IBRL without one or both kinds of proposals, or without dropout (paper, Fig. 6).",
            figures.learning_curves(comparison, {"ibrl"} | ablations)
            if ablations and len(others) > 1
            else None,
        ),
        (
            "Hybrid and RL actor",
            "The hybrid and the RL actor of the same runs (paper, Fig. 11).",
            figures.hybrid_and_rl(comparison),
        ),
        (
            "Imitation actions",
            "Share of imitation actions among the hybrid's in evaluations (paper, Fig. 12).",
            figures.imitation_share(comparison),
        ),
    ]
    for heading, caption, figure in drawn:
        if figure is not None:
            yield heading, caption, figures.to_svg(figure)


def _versions(comparison: Comparison) -> str:
    versions = {
        ", ".join(f"{name} {version}" for name, version in run.provenance["versions"].items())
        for run in comparison.runs
        if "versions" in run.provenance
    }
    return "Versions: " + "; or ".join(sorted(versions)) + "." if versions else ""


def _videos(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Headings and data URLs of the runs' videos."""
    for run in comparison.runs:
        file = run.path / VIDEO
        if file.is_file() and file.stat().st_size <= MAX_VIDEO_BYTES:
            content = base64.b64encode(file.read_bytes()).decode()
            yield f"{run.method}, seed {run.seed}", f"data:video/mp4;base64,{content}"


def _write_tables(section: Mapping[str, Any], out: Path, prefix: str) -> None:
    for table in _TABLES:
        rows: list[Row] = section.get(table, [])
        if rows:
            path = out / f"{prefix}-{table}.csv"
            write_table(path, rows[0], ([*row.values()] for row in rows))
