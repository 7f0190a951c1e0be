"""Evaluations as a table for people and as CSV files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from ibrl_torchrl.evaluation.evaluate import Evaluation
from ibrl_torchrl.files import write_table


def format_table(results: Mapping[str, Evaluation]) -> str:
    """The figures of several policies, one line each."""
    lines = [f"{'policy':8} {'success':>8} {'95 % interval':>15} {'length':>7} {'IL share':>9}"]
    for name, result in results.items():
        low, high = result.interval
        length = "-" if math.isnan(result.success_length) else f"{result.success_length:.1f}"
        lines.append(
            f"{name:8} {result.success_rate:8.2f} {f'{low:.2f} to {high:.2f}':>15} "
            f"{length:>7} {result.il_share:9.2f}"
        )
    return "\n".join(lines)


def write_evaluation(path: Path, frames: int, results: Mapping[str, Evaluation]) -> None:
    """Write every episode of several policies to a CSV file."""
    write_table(
        path,
        ["frames", "policy", "seed", "success", "length", "il_frames"],
        (
            (frames, name, each.seed, int(each.success), each.frames, each.il_frames)
            for name, result in results.items()
            for each in result.episodes
        ),
    )
