"""Sections of the page: tables, figures and texts of a comparison, by the template's names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ibrl_torchrl.reports import run_tables, tables
from ibrl_torchrl.reports.charts import Chart, comparison_charts
from ibrl_torchrl.reports.commands import command_table
from ibrl_torchrl.reports.comparison import Comparison
from ibrl_torchrl.reports.diagnosis_charts import diagnosis_charts
from ibrl_torchrl.reports.diagnosis_tables import (
    diagnosis_table,
    mean_diagnosis_table,
    read_diagnoses,
)
from ibrl_torchrl.reports.embedding import embed
from ibrl_torchrl.reports.heat_maps import HeatMap, improvement_maps
from ibrl_torchrl.reports.interactive import HEADING, interactive_curves
from ibrl_torchrl.reports.layout import TEXT, Column, columns
from ibrl_torchrl.reports.links import run_links
from ibrl_torchrl.reports.palette import method_style
from ibrl_torchrl.reports.run_tables import Row
from ibrl_torchrl.reports.videos import linked_videos

LONG = 60  # runs; tables of more are not printed


def section(
    comparison: Comparison, number: int, prefix: str, page_folder: Path, *, is_interactive: bool
) -> dict[str, Any]:
    """Content of a comparison's section.

    Args:
        comparison: runs to show.
        number: number of the section, from 1.
        prefix: begins the names of its files.
        page_folder: folder of the page, from which links lead to the run folders.
        is_interactive: whether to add learning curves drawn by Bokeh, which must be installed.

    Returns:
        Values by the names that the template uses. ``csv`` has the rows of each CSV file, and
        ``drawings`` the charts and heat maps.

    Raises:
        UsageError: a diagnosis cannot be read.
    """
    content: dict[str, Any] = {
        "comparison": comparison,
        "id": f"s{number}",
        "prefix": prefix,
        "title": f"{comparison.task}, {comparison.frames:,} frames",
        "csv": {},
        "drawings": [],
    }
    if not comparison.methods:
        return content
    diagnoses = read_diagnoses(comparison)
    csv = {
        "final": tables.final_table(comparison),
        "runs": run_tables.run_table(comparison),
        "speed": run_tables.speed_table(comparison),
        "lengths": run_tables.length_table(comparison),
        "improvement": tables.improvement_table(comparison),
        "diagnosis": diagnosis_table(diagnoses, comparison.imitation),
        "settings": tables.settings_table(comparison),
    }
    curves, *others = comparison_charts(comparison)
    charts: list[Chart | HeatMap] = [curves, *others, *improvement_maps(csv["improvement"])]
    diagnosis = diagnosis_charts(comparison, diagnoses)
    methods = [*comparison.methods]
    content |= {
        "csv": csv,
        "drawings": [*charts, *diagnosis],
        "columns": columns(comparison.imitation),
        "methods": methods,
        "legend": [(method, method_style(place)) for place, method in enumerate(methods)],
        "method_rows": csv["final"],
        "videos": linked_videos(comparison, page_folder),
        "figures": [embed(chart, content["id"]) for chart in charts],
        "interactive": interactive_curves(comparison, curves, f"{content['id']}-interactive")
        if is_interactive
        else None,
        "diagnosis_figures": [embed(chart, content["id"]) for chart in diagnosis],
        "diagnosis_rows": mean_diagnosis_table(csv["diagnosis"]),
        "diagnosis": csv["diagnosis"],
        "settings": csv["settings"],
        "setting_columns": [
            Column(key, key, TEXT) for key in (csv["settings"][0] if csv["settings"] else ())
        ],
        "is_long": len(comparison.runs) > LONG,
        "runs_by_method": [*_runs_by_method(comparison, csv, page_folder)],
        "commands": command_table(comparison),
        "versions": _versions(comparison),
        **_all_settings(comparison),
    }
    return content | {"contents": [*_contents(content)]}


def _runs_by_method(
    comparison: Comparison, csv: Mapping[str, list[Row]], page_folder: Path
) -> Iterator[tuple[str, list[Row]]]:
    """Methods with one row a run: its rows of the three tables of runs, and links to its files."""
    tables_of_runs = (csv["runs"], csv["speed"], csv["lengths"])
    rows = zip(comparison.runs, *tables_of_runs, strict=True)
    joined = [
        result | speed | lengths | {"links": run_links(run, page_folder)}
        for run, result, speed, lengths in rows
    ]
    for method in comparison.methods:
        yield method, [row for row in joined if row["method"] == method]


def _all_settings(comparison: Comparison) -> dict[str, Any]:
    """Settings of the first run, and its name."""
    first = comparison.runs[0]
    return {
        "first": f"{first.method}, seed {first.seed}",
        "all_settings": [
            {"setting": name, "value": value}
            for name, value in tables.method_settings(first).items()
        ],
    }


def _versions(comparison: Comparison) -> str:
    versions = {
        ", ".join(f"{name} {version}" for name, version in run.provenance["versions"].items())
        for run in comparison.runs
        if "versions" in run.provenance
    }
    return "Versions: " + "; or ".join(sorted(versions)) + "." if versions else ""


def _contents(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Identifiers and headings below the section's, for the table of contents."""
    number = content["id"]
    yield f"{number}-results", "Results"
    if content["videos"]:
        yield f"{number}-videos", "Videos"
    for figure in content["figures"]:
        yield figure["id"], figure["heading"]
    if content["interactive"]:
        yield f"{number}-interactive", HEADING
    yield f"{number}-policies", "Policies"
    if content["diagnosis_rows"]:
        yield f"{number}-diagnosis", "Diagnosis"
    if content["settings"]:
        yield f"{number}-settings", "Settings that differ"
    yield f"{number}-runs", "Runs"
