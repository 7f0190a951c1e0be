"""Latency of one action from states at batch size 1, beside plain PyTorch modules doing the same.

    OMP_NUM_THREADS=1 python tests/benchmarks/acting_latency.py [--csv FILE] [--calls 1000]

Actor, imitation policy, two drawn of three critics (evaluation: all) and the choice, in the size
and with the normalisation of ``algo=ibrl``. Calls alternate in one process with one
thread; medians in milliseconds.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import torch
from plain_ibrl import PlainIBRL
from sizes import STATE
from tables import report
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type
from untrained import untrained_agent

from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig

COLUMNS = ["use", "library_ms", "plain_ms", "ratio"]
SETTINGS = ["algo=ibrl", "task.relative_positions=[]"]  # plain modules read the state alone


class PlainActing:
    """Hybrid policy of plain modules, which normalise as the library's do."""

    def __init__(self, noise: float) -> None:
        self.networks = PlainIBRL(hidden=[256] * 3, number=3)
        self.networks.actor.eval()
        self.noise = noise
        self.mean, self.std = torch.zeros(STATE), torch.ones(STATE)

    def propose(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Actions of actor and imitation policy."""
        return (
            self.networks.actor(self.normalize(state)),
            self.networks.bc(self.normalize(state)),
        )

    def normalize(self, state: torch.Tensor) -> torch.Tensor:
        """Normalised state; each network does it by itself."""
        return (state - self.mean) / self.std

    def explore(self, state: torch.Tensor) -> torch.Tensor:
        """Action with noise, chosen by two critics."""
        rl_action, bc_action = self.propose(state)
        rl_action = (rl_action + self.noise * torch.randn_like(rl_action)).clamp(-1, 1)
        return self.choose(state, rl_action, bc_action, torch.randperm(3)[:2])

    def evaluate(self, state: torch.Tensor) -> torch.Tensor:
        """Action without noise, chosen by all critics."""
        return self.choose(state, *self.propose(state), None)

    def choose(
        self,
        state: torch.Tensor,
        rl_action: torch.Tensor,
        bc_action: torch.Tensor,
        members: torch.Tensor | None,
    ) -> torch.Tensor:
        """The action of the higher minimum."""
        actions = torch.stack([rl_action, bc_action])
        states = self.normalize(state).expand(2, -1)
        values = self.networks.critics(states, actions, members).amin(0)
        return actions[values.argmax()]


def measure(calls: int) -> list[list[object]]:
    """A row each for exploration and evaluation."""
    config = parse(TrainConfig, composed("train", SETTINGS))
    agent, plain = untrained_agent(config), PlainActing(config.algo.exploration_noise)
    state = torch.randn(STATE)
    observation = TensorDict(state=state)

    def library(mode):
        with set_exploration_type(mode):
            policy = agent.explore if mode is ExplorationType.RANDOM else agent.policies["hybrid"]
            policy(observation.copy())

    pairs = {
        "exploration": (lambda: library(ExplorationType.RANDOM), lambda: plain.explore(state)),
        "evaluation": (
            lambda: library(ExplorationType.DETERMINISTIC),
            lambda: plain.evaluate(state),
        ),
    }
    times = {use: ([], []) for use in pairs}
    with torch.no_grad():
        for _ in range(calls):
            for use, functions in pairs.items():
                for function, seconds in zip(functions, times[use], strict=True):
                    start = time.perf_counter()
                    function()
                    seconds.append(time.perf_counter() - start)
    rows = []
    for use, found in times.items():
        ours, theirs = (median(seconds) * 1e3 for seconds in found)
        rows.append([use, f"{ours:.3f}", f"{theirs:.3f}", f"{ours / theirs:.2f}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--calls", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    report(COLUMNS, measure(options.calls), options.csv)


if __name__ == "__main__":
    main()
