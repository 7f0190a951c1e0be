"""Report of runs: a self-contained HTML page, tables as CSV files, figures as SVG, PDF and PNG."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from jinja2.utils import htmlsafe_json_dumps

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import atomic_path, write_table
from ibrl_torchrl.reports import layout
from ibrl_torchrl.reports.comparison import Comparison, compare
from ibrl_torchrl.reports.drawing import draw
from ibrl_torchrl.reports.figures import save_figure
from ibrl_torchrl.reports.interactive import HEADING, library, require_library
from ibrl_torchrl.reports.sections import section
from ibrl_torchrl.reports.statistics import RESAMPLES
from ibrl_torchrl.reports.style import FigureStyle
from ibrl_torchrl.runs.reader import Run

# Names of a section's tables and figures: number, task, what they show.
_SECTION_FILE = re.compile(r"\d+-[A-Za-z0-9-]+-[a-z_]+\.(csv|svg|pdf|png)")


def write_report(
    runs: Sequence[Run],
    out: Path,
    title: str,
    style: FigureStyle | None = None,
    *,
    interactive: bool = True,
) -> list[Comparison]:
    """Write ``index.html`` and, for each comparison, its tables and figures.

    Args:
        runs: runs to compare; those that cannot be compared get separate sections.
        out: folder to create or to write into.
        title: title of the page.
        style: size, font and formats of the figures' files; default :class:`FigureStyle`.
        interactive: whether to add interactive learning curves and Bokeh's script, 1.3 MB; where
            Bokeh is not installed the page says what to install instead.

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
    missing = _missing_library() if interactive else None
    is_interactive = interactive and missing is None
    sections, written = [], set[Path]()
    for number, comparison in enumerate(comparisons, 1):
        prefix = f"{number}-{re.sub('[^A-Za-z0-9]+', '-', comparison.task)}"
        sections.append(section(comparison, number, prefix, out, is_interactive=is_interactive))
        written.update(_write_files(sections[-1], out, style or FigureStyle()))
    page = _render(
        title=title,
        runs=len(runs),
        compared=sum(len(comparison.runs) for comparison in comparisons),
        resamples=RESAMPLES,
        sections=sections,
        scripts=[library()] if any(content.get("interactive") for content in sections) else [],
        missing=missing,
        interactive_heading=HEADING,
    )
    with atomic_path(out / "index.html") as temporary:
        temporary.write_text(page)
    for path in out.iterdir():  # of an earlier report
        if _SECTION_FILE.fullmatch(path.name) and path not in written:
            path.unlink()
    return comparisons


def _missing_library() -> str | None:
    """What to install for interactive curves; None where it is installed."""
    try:
        require_library()
    except UsageError as error:
        return str(error)
    return None


def _render(*, scripts: Sequence[str], **values: Any) -> str:
    """HTML of the page, whose style sheet and scripts are inside of it.

    The page allows these scripts alone, named by their hashes, and loads nothing but videos.

    Args:
        scripts: scripts that the page's own one uses.
        values: variables of the template.
    """
    environment = Environment(
        loader=PackageLoader("ibrl_torchrl.reports", "."), autoescape=select_autoescape()
    )
    environment.filters |= {
        "best": layout.best_texts,
        "cell": layout.format_cell,
        "is_best": layout.is_best,
        "ordered_json": htmlsafe_json_dumps,  # tojson sorts keys, which Bokeh cannot read
        "sort_key": layout.sort_key,
        "stroke_dashes": lambda dashes: " ".join(f"{2 * length:g}" for length in dashes),
    }
    files = resources.files("ibrl_torchrl.reports")
    style = (files / "page.css").read_text()
    all_scripts = [*scripts, (files / "page.js").read_text()]
    return environment.get_template("page.html").render(
        style=style, scripts=all_scripts, hashes=[*map(_script_hash, all_scripts)], **values
    )


def _script_hash(script: str) -> str:
    """Source expression that allows a script in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _write_files(content: Mapping[str, Any], out: Path, style: FigureStyle) -> Iterator[Path]:
    """Write the tables and figures of a section; yields their paths."""
    for name, rows in content["csv"].items():
        if rows:
            path = out / f"{content['prefix']}-{name}.csv"
            write_table(path, rows[0], ([*row.values()] for row in rows))
            yield path
    for drawing in content["drawings"] if style.formats else ():
        figure = draw(drawing, style)
        for file_format in style.formats:
            path = out / f"{content['prefix']}-{drawing.name}.{file_format}"
            save_figure(figure, path, file_format)
            yield path
