"""Success rate and episode length of robosuite's scripted experts.

    python tests/benchmarks/expert_success.py [TASK ...] [--seeds 0 50] [--noise 0.0] [--csv FILE]

Each episode starts from ``env.set_seed(seed)``. The CSV file has a row per episode: task, noise,
seed, success (0 or 1) and length in environment steps.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator

import torch
from torchrl.envs import InitTracker, TransformedEnv

from ibrl_torchrl.envs import make_env
from ibrl_torchrl.experts import scripted_expert
from ibrl_torchrl.keys import NEXT, SUCCESS

HORIZONS = {"Lift": 100, "PickPlaceCan": 200, "NutAssemblySquare": 300}  # environment steps


def measure(task: str, noise: float, seeds: range) -> Iterator[dict[str, object]]:
    """Run the expert of a task for one episode per seed and yield the rows of the CSV file."""
    env = TransformedEnv(make_env("robosuite", task, horizon=HORIZONS[task]), InitTracker())
    expert = scripted_expert("robosuite", task, noise)
    for seed in seeds:
        env.set_seed(seed)
        episode = env.rollout(HORIZONS[task], expert)
        success = int(episode[NEXT, SUCCESS].any())
        yield dict(task=task, noise=noise, seed=seed, success=success, length=len(episode))
    env.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(HORIZONS)}")
    parser.add_argument("--seeds", type=int, nargs=2, default=[0, 50], metavar=("FIRST", "END"))
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0])
    parser.add_argument("--csv", metavar="FILE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for noise in arguments.noise:
        for task in arguments.tasks or HORIZONS:
            episodes = [*measure(task, noise, range(*arguments.seeds))]
            rows += episodes
            lengths = [row["length"] for row in episodes if row["success"]]
            failed = [row["seed"] for row in episodes if not row["success"]]
            print(
                f"{task}, noise {noise}: {len(lengths)} of {len(episodes)} succeed; steps "
                f"mean {sum(lengths) / max(len(lengths), 1):.1f}, min {min(lengths, default=0)}, "
                f"max {max(lengths, default=0)}" + (f"; failed seeds {failed}" if failed else ""),
                flush=True,
            )
    if arguments.csv:
        with open(arguments.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
