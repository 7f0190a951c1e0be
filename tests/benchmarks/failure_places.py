"""Where a run's hybrid policy fails on Meta-World, and whether its critics expect it.

    python tests/benchmarks/failure_places.py RUN FILE [--episodes 50]

One row an episode: seed of the initial state, initial x of the first object and of the goal (m),
success, how far the object was moved at most (m), the mean value of the chosen actions, at the end
the distance of the object that has to reach the goal (the second, if there is one) to it (m), and
the value of the last action.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.evaluation.load import load_run
from ibrl_torchrl.keys import CHOSEN_VALUE, STATE, SUCCESS

COLUMNS = [
    *("seed", "object_x", "goal_x", "success", "object_moved", "mean_value"),
    *("goal_distance", "last_value"),
]
FIRST_SEED = 400_000  # training and evaluations use others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("out", type=Path, metavar="FILE")
    parser.add_argument("--episodes", type=int, default=50)
    arguments = parser.parse_args()
    loaded = load_run(arguments.run, seed=1, threads=1, device="cpu")
    env = loaded.env
    sizes = [*env.state_parts.values()]
    parts = dict(zip(env.state_parts, torch.arange(sum(sizes)).split(sizes), strict=True))
    with arguments.out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.episodes):
            env.set_seed(seed)
            with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
                episode = env.rollout(10_000, loaded.agent.scored)
            place = episode[STATE][:, parts["object1_pos"]]
            goal = episode[STATE][0, parts["goal_pos"]]
            moved = (place - place[0]).norm(dim=-1).max()
            numbers = [f"{value:.3f}" for value in (place[0, 0], goal[0])]
            success = int(episode["next", SUCCESS].any())
            value = episode[CHOSEN_VALUE]
            end = episode["next", STATE][-1]
            second = end[parts["object2_pos"]]
            target = second if bool(second.any()) else end[parts["object1_pos"]]
            distance = (target - end[parts["goal_pos"]]).norm()
            numbers = [
                *(*numbers, success),
                *(f"{number.item():.3f}" for number in (moved, value.mean(), distance, value[-1])),
            ]
            writer.writerow([seed, *numbers])


if __name__ == "__main__":
    main()
