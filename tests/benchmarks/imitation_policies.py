"""Imitation policies of each kind on one task: success, training and acting time.

One row a kind: success of 50 episodes, processor seconds of the training (one thread), and
processor milliseconds of acting at batch 1: a deterministic action, and 16 candidates::

    python tests/benchmarks/imitation_policies.py docs/results/imitation/box-close.csv 2000
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from pathlib import Path

import torch
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.imitation import frozen_policies, load_policies
from ibrl_torchrl.cli import main as cli
from ibrl_torchrl.config.commands import BCRunConfig
from ibrl_torchrl.config.imitation import POLICIES
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.modules import SampledProposals
from ibrl_torchrl.runs.folder import read_config
from ibrl_torchrl.training import imitation

COLUMNS = ["policy", "steps", "success", "episodes", "training_s", "mode_ms", "samples16_ms"]


def row(kind: str, steps: int, folder: Path) -> list[object]:
    """Train and evaluate one kind by ``ibrl bc``."""
    seconds = []
    train = imitation.train_imitation

    def timed(*args, **kwargs):
        start = time.process_time()
        train(*args, **kwargs)
        seconds.append(time.process_time() - start)

    imitation.train_imitation = timed
    settings = [f"run_dir={folder}", f"imitation.bc.policy={kind}", f"imitation.bc.steps={steps}"]
    sys.argv = ["ibrl", "bc", "task=metaworld/box-close", "seed=1", *settings]
    try:
        cli.main()
    finally:
        imitation.train_imitation = train
    with (folder / "evaluation.csv").open(newline="") as file:
        success = [float(episode["success"]) for episode in csv.DictReader(file)]
    rate = sum(success) / len(success)
    times = acting_ms(folder)
    return [kind, steps, f"{rate:.2f}", len(success), f"{seconds[0]:.1f}", *times]


def acting_ms(folder: Path) -> list[str]:
    """Processor milliseconds of a deterministic action and of 16 candidates."""
    config = parse(BCRunConfig, read_config(folder))
    env = build_env(config.task, torch.device("cpu"))
    networks = load_policies(folder, config.imitation, config.task, env)
    policy = frozen_policies(networks, config.imitation)["bc"]
    noise = None if config.imitation["bc"].stochastic else 0.1
    state, times = TensorDict(state=env.reset()["state"]), []
    for module, mode in (
        (policy, ExplorationType.DETERMINISTIC),
        (SampledProposals(policy, 16, noise_std=noise), ExplorationType.RANDOM),
    ):
        with set_exploration_type(mode):
            for _ in range(20):
                module(state.copy())
            start = time.process_time()
            for _ in range(200):
                module(state.copy())
        times.append(f"{(time.process_time() - start) * 5:.2f}")
    return times


if __name__ == "__main__":
    out, steps = Path(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as temporary:
        table = [row(kind, steps, Path(temporary) / kind) for kind in POLICIES]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *table])
