"""Imitation policies of each kind: success over training steps, training and acting time.

Three scripted demonstrations a task, seed 1 by default. A policy is evaluated, without a draw, on
the same initial states after 1000, 2000 and 4000 steps of one training. One row an evaluation:
success and episodes, processor seconds of the training until then (one thread), and processor
milliseconds of acting at batch 1: a deterministic action, and 16 candidates (none of a recurrent
policy). Rows are appended to the file::

    python tests/benchmarks/imitation_policies.py docs/results/imitation/steps.csv
    python tests/benchmarks/imitation_policies.py FILE --kinds flow --tasks assembly --seed 2
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
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

COLUMNS = ["task", "policy", "seed", "steps", "success", "episodes", "training_s"]
COLUMNS += ["mode_ms", "samples16_ms"]
STEPS = (1000, 2000, 4000)
EPISODES = 20


def rows(task: str, kind: str, seed: int) -> Iterator[list[object]]:
    """Train one policy; a row after each number of ``STEPS``."""
    settings = [f"task=metaworld/{task}", f"imitation.bc.policy={kind}"]
    config = parse(BCRunConfig, composed("bc", settings))
    device = setup_process(seed, 1, "cpu")
    env = build_env(config.task, device)
    expert = scripted_expert(config.task.suite, config.task.name)
    demos = [*record_demos(env, expert, config.demos.episodes, seed=config.demos.seed)]
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
        if step not in STEPS:
            return
        seconds += time.process_time() - start
        network.eval()
        policy = frozen_policies({"bc": network}, config.imitation)["bc"]
        acting = execute(policy, "bc", 0, bc.chunk)
        seeds = range(bc.eval_seed, bc.eval_seed + EPISODES)
        job = EvaluationJob(LocalRollouts(env, {"bc": acting}), ["bc"], seeds, ["bc"])
        rate = job.results()["bc"].success_rate
        found.append([task, kind, seed, step, f"{rate:.2f}", EPISODES, f"{seconds:.1f}"])
        network.train().requires_grad_(True)  # frozen above
        start = time.process_time()

    train_imitation(
        network,
        imitation_loss(network, bc),
        transitions,
        steps=max(STEPS),
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
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not file.tell():
            writer.writerow(COLUMNS)
        for kind in arguments.kinds:
            for task in arguments.tasks:
                writer.writerows(rows(task, kind, arguments.seed))
                file.flush()


if __name__ == "__main__":
    main()
