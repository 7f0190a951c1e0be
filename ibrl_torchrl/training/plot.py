"""Learning curves: ``python -m ibrl_torchrl.training.plot OUT.png RUN [RUN ...]``."""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import replacing

COLOURS = {"hybrid": "#0b6e99", "rl": "#c8553d", "bc": "#6b6b6b"}
LABELS = {"hybrid": "IBRL (hybrid)", "rl": "its RL actor alone", "bc": "its BC policy"}


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


def plot_runs(run_dirs: Sequence[Path], out: Path, title: str | None = None) -> None:
    """Draw success against frames: each run thin, their mean bold, the BC policies as a line.

    Runs are averaged where all of them were evaluated, after rounding frames to thousands.

    Raises:
        UsageError: a run has no evaluations, or ``out`` cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = [read_curve(Path(run)) for run in run_dirs]
    figure = Figure(figsize=(6.4, 4.0), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for policy in ("hybrid", "rl"):
        rounded = [
            {round(frames, -3): value for frames, value in curve.get(policy, {}).items()}
            for curve in curves
        ]
        for run in rounded:
            axes.plot([*run], [*run.values()], color=COLOURS[policy], alpha=0.3, linewidth=0.8)
        shared = sorted(set.intersection(*(set(run) for run in rounded)))
        axes.plot(
            shared,
            [mean(run[frames] for run in rounded) for frames in shared],
            color=COLOURS[policy],
            linewidth=2,
            label=LABELS[policy],
        )
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
    with replacing(out) as temporary:
        figure.savefig(temporary, format="png")


def main() -> None:
    """Draw the runs named on the command line."""
    parser = argparse.ArgumentParser(description="Draw the learning curves of several runs.")
    parser.add_argument("out", type=Path, help="PNG file to write")
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or folders of eval.csv")
    parser.add_argument("--title")
    arguments = parser.parse_args()
    try:
        plot_runs(arguments.runs, arguments.out, arguments.title)
    except UsageError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
