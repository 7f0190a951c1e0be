"""The report: one HTML page that needs nothing beside it, its tables as CSV, its curves as PNG."""

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
from ibrl_torchrl.reports.diagnosis_tables import diagnoses, diagnosis_table
from ibrl_torchrl.reports.statistics import RESAMPLES
from ibrl_torchrl.reports.tables import Row
from ibrl_torchrl.runs.reader import Run

_TABLES = ("final", "runs", "speed", "lengths", "improvement", "diagnosis", "settings")
# Methods that lack a part of IBRL; where there are others, too, they are drawn apart.
ABLATIONS = {"actor_proposal", "bootstrap_proposal", "td3", "ibrl_no_dropout"}
# Larger videos stay in their run folders.
LARGEST_VIDEO = 5_000_000
_Columns = list[tuple[str, str, str]]
_COLUMNS: dict[str, _Columns] = {
    "final": [
        ("method", "method", "text"),
        ("runs", "runs", "d"),
        ("episodes", "episodes", "d"),
        ("success", "success", "estimate"),
        ("while_learning", "while learning", "estimate"),
        ("rl_alone", "RL alone", ".2f"),
        ("bc_policy", "BC", ".2f"),
        ("il_share", "imitation", ".2f"),
    ],
    "speed": [
        ("method", "method", "text"),
        ("seed", "seed", "d"),
        ("frames_to_50", "frames to 50 %", ",.0f"),
        ("minutes_to_50", "minutes", ".1f"),
        ("frames_to_90", "frames to 90 %", ",.0f"),
        ("minutes_to_90", "minutes", ".1f"),
    ],
    "lengths": [
        ("method", "method", "text"),
        ("seed", "seed", "d"),
        ("bc_policy", "BC policy", ".1f"),
        ("method_itself", "method", ".1f"),
    ],
    "improvement": [
        ("method", "a run of", "text"),
        ("than", "is better than one of", "text"),
        ("probability", "in the end", "estimate"),
        ("while_learning", "while learning", "estimate"),
    ],
    "diagnosis": [
        ("method", "method", "text"),
        ("seed", "seed", "d"),
        ("gap_solved", "value - return, solved", "+.3f"),
        ("gap_failed", "failed", "+.3f"),
        ("bc_demonstrated", "BC from demonstrated states", ".2f"),
        ("bc_visited", "from visited", ".2f"),
        ("error_demonstrated", "BC from expert, demonstrated", ".2f"),
        ("error_visited", "visited", ".2f"),
    ],
    "all_settings": [("setting", "setting", "text"), ("value", "value", "text")],
    "runs": [
        ("method", "method", "text"),
        ("seed", "seed", "d"),
        ("success", "success", ".2f"),
        ("rl_alone", "RL alone", ".2f"),
        ("bc_policy", "BC", ".2f"),
        ("minutes", "minutes", ".1f"),
        ("commit", "commit", "text"),
        ("command", "command", "text"),
    ],
}


def write_report(runs: Sequence[Run], out: Path, title: str) -> list[Comparison]:
    """Write ``index.html`` and, for each comparison, its tables and learning curves.

    Args:
        runs: to be compared where that is possible.
        out: folder, made if need be.
        title: of the page.

    Raises:
        UsageError: ``out`` cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"out={out}: cannot make this folder ({error.strerror})") from error
    comparisons = compare(runs)
    parts = []
    for number, comparison in enumerate(comparisons, 1):
        name = f"{number}-{re.sub('[^A-Za-z0-9]+', '-', comparison.task)}"
        parts.append(_part(comparison))
        _write_tables(parts[-1], out, name)
        if comparison.methods:
            with atomic_path(out / f"{name}-curves.png") as temporary:
                figures.learning_curves(comparison).savefig(temporary, format="png")
    environment = Environment(
        loader=PackageLoader("ibrl_torchrl.reports", "."), autoescape=select_autoescape()
    )
    environment.filters["cell"] = _cell
    page = environment.get_template("page.html").render(
        title=title,
        runs=len(runs),
        counted=sum(len(comparison.runs) for comparison in comparisons),
        resamples=RESAMPLES,
        columns=_COLUMNS,
        parts=parts,
    )
    with atomic_path(out / "index.html") as temporary:
        temporary.write_text(page)
    return comparisons


def _part(comparison: Comparison) -> dict[str, Any]:
    """What the page shows of a comparison."""
    if not comparison.methods:
        return {"comparison": comparison}
    settings = tables.settings_table(comparison)
    first = comparison.runs[0]
    found = diagnoses(comparison)
    return {
        "comparison": comparison,
        "final": tables.final_table(comparison),
        "speed": tables.speed_table(comparison),
        "lengths": tables.length_table(comparison),
        "improvement": tables.improvement_table(comparison),
        "diagnosis": diagnosis_table(found),
        "proposals": figures.as_svg(figures.proposals_by_part(found)) if found else None,
        "settings": settings,
        "setting_columns": [(key, key, "text") for key in (settings[0] if settings else ())],
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
    methods = {run.method for run in comparison.runs}
    ablations, others = methods & ABLATIONS, methods - ABLATIONS
    drawn = [
        (
            "Learning curves",
            "Success of the policy that a method ends with.",
            figures.learning_curves(comparison, others if len(others) > 1 else methods),
        ),
        (
            "Ablations",
            "What IBRL is without one or both of its proposals, or without dropout (Fig. 6).",
            figures.learning_curves(comparison, {"ibrl"} | ablations)
            if ablations and len(others) > 1
            else None,
        ),
        (
            "Hybrid and RL actor alone",
            "The same runs; the RL actor evaluated by itself (the paper's Fig. 11).",
            figures.hybrid_against_rl(comparison),
        ),
        (
            "Imitation actions",
            "How often the hybrid takes the BC policy's action when evaluated (Fig. 12).",
            figures.il_share(comparison),
        ),
    ]
    for heading, text, figure in drawn:
        if figure is not None:
            yield heading, text, figures.as_svg(figure)


def _versions(comparison: Comparison) -> str:
    told = {
        ", ".join(f"{name} {found}" for name, found in run.origin.get("versions", {}).items())
        for run in comparison.runs
    }
    return "Versions: " + "; or ".join(sorted(told)) + "."


def _videos(comparison: Comparison) -> Iterator[tuple[str, str]]:
    for run in comparison.runs:
        file = run.path / "video.mp4"
        if file.is_file() and file.stat().st_size <= LARGEST_VIDEO:
            content = base64.b64encode(file.read_bytes()).decode()
            yield f"{run.method}, seed {run.seed}", f"data:video/mp4;base64,{content}"


def _write_tables(part: Mapping[str, Any], out: Path, name: str) -> None:
    for table in _TABLES:
        rows: list[Row] = part.get(table, [])
        if rows:
            path = out / f"{name}-{table}.csv"
            write_table(path, rows[0], (row.values() for row in rows))


def _cell(row: Row, key: str, form: str) -> str:
    """A value as the page shows it."""
    value = row.get(key)
    if value is None:
        return "-"
    if form == "estimate":
        return f"{value:.2f} ({row[f'{key}_low']:.2f} to {row[f'{key}_high']:.2f})"
    return str(value) if form == "text" else format(value, form)
