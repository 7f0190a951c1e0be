"""DAgger against behaviour cloning on the same number of episodes and of optimiser steps.

One row a task, seed, method and number of episodes: the expert's labels that they hold, success of
50 episodes::

    python tests/benchmarks/dagger.py docs/results/dagger/success.csv --rounds 4 --seeds 1 2 3 \
        --tasks metaworld/box-close metaworld/assembly
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ibrl_torchrl.cli import main as cli
from ibrl_torchrl.data.demos.describe import describe_demos

EPISODES = 3  # of a round
COLUMNS = ["task", "seed", "method", "episodes", "labels", "evaluated", "success"]


def ibrl(command: str, folder: Path, task: str, seed: int, *settings: str) -> list[dict[str, str]]:
    """Run a command; returns the rows of its ``evaluation.csv``."""
    sys.argv = ["ibrl", command, f"run_dir={folder}", f"task={task}", f"seed={seed}", *settings]
    cli.main()
    with (folder / "evaluation.csv").open(newline="") as file:
        return [*csv.DictReader(file)]


def rows(task: str, seed: int, rounds: int, folder: Path) -> Iterator[list[object]]:
    """Success of each round of DAgger, and of BC on as many scripted demonstrations."""
    episodes = [EPISODES * (index + 1) for index in range(rounds)]
    settings = [f"dagger.rounds={rounds}", f"dagger.episodes={EPISODES}"]
    evaluated = ibrl(
        *("dagger", folder / "dagger", task, seed), f"demos.episodes={EPISODES}", *settings
    )
    for count, labels in zip(
        episodes, dict.fromkeys(row["frames"] for row in evaluated), strict=True
    ):
        successes = [int(row["success"]) for row in evaluated if row["frames"] == labels]
        yield [task, seed, "dagger", count, labels, len(successes), rate(successes)]
    for count in episodes:
        run = folder / f"bc{count}"
        evaluated = ibrl("bc", run, task, seed, f"demos.episodes={count}")
        labels = sum(describe_demos(run / "demos.hdf5").lengths)
        successes = [int(row["success"]) for row in evaluated]
        yield [task, seed, "bc", count, labels, len(successes), rate(successes)]


def rate(successes: list[int]) -> str:
    """Fraction of successes."""
    return f"{sum(successes) / len(successes):.2f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--tasks", nargs="+", default=["metaworld/box-close", "metaworld/assembly"])
    asked = parser.parse_args()
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    with asked.out.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for task in asked.tasks:
            for seed in asked.seeds:
                with tempfile.TemporaryDirectory() as temporary:
                    for row in rows(task, seed, asked.rounds, Path(temporary)):
                        table.writerow(row)
                        file.flush()
