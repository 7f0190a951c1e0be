"""Learning curves: ``python -m ibrl_torchrl.training.plot OUT.png RUN [RUN ...]``."""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"hybrid": "#0b6e99", "rl": "#c8553d", "bc": "#6b6b6b", "without": "#5a8f3d"}
LABELS = {
    "hybrid": "IBRL (hybrid)",
    "rl": "its RL actor alone",
    "bc": "its BC policy",
    "without": "RL without proposals",
}

# Success rate by frame.
Curve = Mapping[int, float]


def read_curve(run_dir: Path) -> dict[str, dict[int, float]]:
    """Success rate by policy and frame, from a run's ``eval.csv``.

    Raises:
        UsageError: the file is missing or is not one of this program.
    """
    path = run_dir / "eval.csv"
    curve: dict[str, dict[int, float]] = defaultdict(dict)
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                curve[row["policy"]][int(row["frames"])] = float(row["success"])
    except (OSError, KeyError, ValueError) as error:
        raise UsageError(f"{path}: no evaluations to draw") from error
    return curve


def plot_runs(
    run_dirs: Sequence[Path],
    out: Path,
    title: str | None = None,
    without: Sequence[Path] = (),
) -> None:
    """Draw success against frames: each run thin, their mean bold, the BC policies as a line.

    Runs are averaged where all of them were evaluated, after rounding frames to thousands.

    Args:
        run_dirs: runs of IBRL.
        out: PNG file to write.
        title: default the number of runs.
        without: runs of the same with ``algo.acting=rl algo.bootstrap=rl``, to compare with.

    Raises:
        UsageError: a run has no evaluations, or ``out`` cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = [read_curve(Path(run)) for run in run_dirs]
    series = {
        "hybrid": [curve.get("hybrid", {}) for curve in curves],
        "rl": [curve.get("rl", {}) for curve in curves],
    }
    if without:
        series["without"] = [read_curve(Path(run)).get("rl", {}) for run in without]
    figure = Figure(figsize=(6.4, 4.0), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, runs in series.items():
        _draw(axes, name, runs)
    bc = [value for curve in curves for value in curve.get("bc", {}).values()]
    if bc:
        axes.axhline(mean(bc), color=COLOURS["bc"], linestyle="--", label=LABELS["bc"])
    axes.set(
        xlabel="environment steps (after action repeat)",
        ylabel="success rate",
        ylim=(-0.02, 1.02),
        title=title or f"{len(curves)} run{'s' if len(curves) > 1 else ''}",
    )
    axes.grid(alpha=0.2)
    axes.legend(frameon=False)
    with atomic_path(out) as temporary:
        figure.savefig(temporary, format="png")


def _draw(axes: Axes, name: str, runs: Sequence[Curve]) -> None:
    rounded = [{round(frames, -3): value for frames, value in run.items()} for run in runs]
    for run in rounded:
        axes.plot([*run], [*run.values()], color=COLOURS[name], alpha=0.3, linewidth=0.8)
    shared = sorted(set.intersection(*(set(run) for run in rounded)))
    means = [mean(run[frames] for run in rounded) for frames in shared]
    axes.plot(shared, means, color=COLOURS[name], linewidth=2, label=LABELS[name])


def main() -> None:
    """Draw the runs named on the command line."""
    parser = argparse.ArgumentParser(description="Draw the learning curves of several runs.")
    parser.add_argument("out", type=Path, help="PNG file to write")
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or folders of eval.csv")
    parser.add_argument("--title")
    parser.add_argument(
        "--without", type=Path, nargs="+", default=[], metavar="RUN", help="runs without proposals"
    )
    arguments = parser.parse_args()
    try:
        plot_runs(arguments.runs, arguments.out, arguments.title, arguments.without)
    except UsageError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
