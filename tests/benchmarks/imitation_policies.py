"""Imitation policies of each kind: success over demonstrations and steps, training, acting time.

Scripted demonstrations, seed 1 by default. A policy is evaluated, without a draw, on the same
initial states after each number of ``--steps`` of one training. One row an evaluation: success
with its 95 % Wilson interval, processor seconds of the training until then (one thread), and
processor milliseconds of acting at batch 1: a deterministic action, and 16 candidates (none of a
recurrent policy). Rows are appended to the file, what it already holds is left out::

    python tests/benchmarks/imitation_policies.py docs/results/imitation/steps.csv
    python tests/benchmarks/imitation_policies.py docs/results/imitation/demos.csv \\
        --demos 1 3 10 50 --steps 1000 --episodes 50 \\
        --tasks assembly box-close coffee-push stick-pull
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from pathlib import Path

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.imitation import execute, frozen_policies
from ibrl_torchrl.builders.normalization import observation_normalizers
from ibrl_torchrl.builders.policies import build_imitation_policy, imitation_loss
from ibrl_torchrl.config.commands import BCRunConfig
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.imitation import POLICIES
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.data.demos import record_demos
from ibrl_torchrl.evaluation.evaluate import EvaluationJob
from ibrl_torchrl.experts import scripted_expert
from ibrl_torchrl.imitation.train import train_imitation
from ibrl_torchrl.keys import ACTION
from ibrl_torchrl.modules import SampledProposals
from ibrl_torchrl.rollouts.episode import LocalRollouts
from ibrl_torchrl.runtime import setup_process
from ibrl_torchrl.training.imitation import imitation_transitions

KEY = ["task", "policy", "demos", "seed", "steps"]
COLUMNS = [*KEY, "success", "low", "high", "episodes", "training_s", "mode_ms", "samples16_ms"]


@cache
def demonstrations(task: str, episodes: int) -> tuple[TensorDict, ...]:
    """Scripted demonstrations of the task; fewer are the first of more."""
    config = parse(BCRunConfig, composed("bc", [f"task=metaworld/{task}"]))
    env = build_env(config.task, torch.device("cpu"))
    expert = scripted_expert(config.task.suite, config.task.name)
    return tuple(record_demos(env, expert, episodes, seed=config.demos.seed))


def rows(
    task: str,
    kind: str,
    demos: Sequence[TensorDict],
    seed: int,
    steps: Sequence[int],
    episodes: int,
) -> Iterator[list[object]]:
    """Train one policy; a row after each number of ``steps``."""
    settings = [f"task=metaworld/{task}", f"imitation.bc.policy={kind}"]
    config = parse(BCRunConfig, composed("bc", settings))
    device = setup_process(seed, 1, "cpu")
    env = build_env(config.task, device)
    bc = config.imitation["bc"]
    transitions = imitation_transitions(demos, bc)
    network = build_imitation_policy(
        bc,
        observation_normalizers(config.task, env, demos),
        env.observation_spec,
        transitions[ACTION].shape[-1],
    )
    found: list[list[object]] = []
    seconds, start = 0.0, time.process_time()

    def on_step(step: int, loss: Tensor) -> None:
        nonlocal seconds, start
        if step not in steps:
            return
        seconds += time.process_time() - start
        network.eval()
        policy = frozen_policies({"bc": network}, config.imitation)["bc"]
        acting = execute(policy, "bc", 0, bc.chunk)
        seeds = range(bc.eval_seed, bc.eval_seed + episodes)
        job = EvaluationJob(LocalRollouts(env, {"bc": acting}), ["bc"], seeds, ["bc"])
        result = job.results()["bc"]
        success = [f"{rate:.2f}" for rate in (result.success_rate, *result.interval)]
        found.append([task, kind, len(demos), seed, step, *success, episodes, f"{seconds:.1f}"])
        network.train().requires_grad_(True)  # frozen above
        start = time.process_time()

    train_imitation(
        network,
        imitation_loss(network, bc),
        transitions,
        steps=max(steps),
        batch_size=bc.batch_size,
        lr=bc.lr,
        on_step=on_step,
    )
    policy = frozen_policies({"bc": network}, config.imitation)["bc"]
    state = TensorDict(state=env.reset()["state"])
    times = [acting_ms(policy, state, ExplorationType.DETERMINISTIC), ""]
    if not bc.recurrent:
        candidates = SampledProposals(policy, 16, noise_std=None if bc.stochastic else 0.1)
        times[1] = acting_ms(candidates, state, ExplorationType.RANDOM)
    yield from ([*row, *times] for row in found)


def acting_ms(policy: TensorDictModuleBase, state: TensorDict, mode: ExplorationType) -> str:
    """Processor milliseconds of a call."""
    with set_exploration_type(mode), torch.no_grad():
        for _ in range(20):
            policy(state.copy())
        start = time.process_time()
        for _ in range(200):
            policy(state.copy())
    return f"{(time.process_time() - start) * 5:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="FILE")
    parser.add_argument("--kinds", nargs="+", default=POLICIES)
    parser.add_argument("--tasks", nargs="+", default=["box-close", "assembly"])
    parser.add_argument("--demos", nargs="+", type=int, default=[3])
    parser.add_argument("--steps", nargs="+", type=int, default=[1000, 2000, 4000])
    parser.add_argument("--episodes", type=int, default=20, help="of an evaluation")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("a+", newline="") as file:
        file.seek(0)
        done = {tuple(row[key] for key in KEY[:-1]) for row in csv.DictReader(file)}
        writer = csv.writer(file, lineterminator="\n")
        if not file.tell():
            writer.writerow(COLUMNS)
        for task, demos, kind in product(arguments.tasks, arguments.demos, arguments.kinds):
            if (task, kind, str(demos), str(arguments.seed)) in done:
                continue
            episodes = demonstrations(task, max(arguments.demos))[:demos]
            writer.writerows(
                rows(task, kind, episodes, arguments.seed, arguments.steps, arguments.episodes)
            )
            file.flush()


if __name__ == "__main__":
    main()
