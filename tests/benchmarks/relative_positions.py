"""Behaviour cloning with and without relative positions: success over sets of demonstrations.

Policies ``mlp`` from three scripted demonstrations, 1000 steps, 50 episodes; one row a training.
Rows are appended to the file, what it already holds is left out::

    python tests/benchmarks/relative_positions.py docs/results/imitation/relative.csv
"""

from __future__ import annotations

import argparse
import csv
from itertools import product
from pathlib import Path

from imitation_policies import demonstrations, rows

POSITIONS = "hand_pos,object1_pos,object2_pos,goal_pos"
SETTINGS = {
    "none": ["task.relative_positions=[]"],
    **{
        bound: [f"task.relative_positions=[{POSITIONS}]", f"task.min_std_relative={bound}"]
        for bound in ("0.1", "0.03", "0.01")
    },
}
COLUMNS = ["task", "demo_seed", "min_std_relative", "success", "low", "high", "episodes"]
EPISODES = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="FILE")
    parser.add_argument(
        "--tasks", nargs="+", default=["assembly", "box-close", "coffee-push", "stick-pull"]
    )
    parser.add_argument("--demo-seeds", nargs="+", type=int, default=[100, 200, 300])
    parser.add_argument("--bounds", nargs="+", choices=SETTINGS, default=[*SETTINGS])
    arguments = parser.parse_args()
    found = [*csv.reader(arguments.out.open())] if arguments.out.exists() else []
    with arguments.out.open("a", newline="") as file:
        writer = csv.writer(file)
        if not found:
            writer.writerow(COLUMNS)
        cases = product(arguments.tasks, arguments.demo_seeds, arguments.bounds)
        for task, seed, bound in cases:
            key = [task, str(seed), bound]
            if key in [row[:3] for row in found]:
                continue
            demos = demonstrations(task, 3, seed)
            (row,) = rows(task, "mlp", demos, 1, [1000], EPISODES, SETTINGS[bound])
            success = row[5:8]
            writer.writerow([*key, *success, EPISODES])
            file.flush()
            print(*key, *success, flush=True)


if __name__ == "__main__":
    main()
