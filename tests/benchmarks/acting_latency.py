"""Latency of one action from states at batch size 1, beside plain PyTorch modules doing the same.

    OMP_NUM_THREADS=1 python tests/benchmarks/acting_latency.py [--csv FILE] [--calls 1000]

Actor, imitation policy, two drawn of three critics (evaluation: all) and the choice, in the size
and with the normalisation of ``algo=ibrl``. *Compiled* is the library's policy as one graph of
``torch.compile``. Calls alternate in one process with one thread; medians in milliseconds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

import torch
from learner_speed import timed
from plain_ibrl import PlainIBRL
from sizes import ACTION, STATE
from tables import report
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type
from untrained import untrained_agent

from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig

COLUMNS = ["use", "library_ms", "plain_ms", "ratio", "compiled_ms", "compiled_ratio"]
SETTINGS = ["algo=ibrl", "task.relative_positions=[]"]  # plain modules read the state alone


class PlainActing:
    """Hybrid policy of plain modules, which normalise as the library's do."""

    def __init__(self, noise: float, state_size: int = STATE, action_size: int = ACTION) -> None:
        self.networks = PlainIBRL(state_size, action_size, hidden=[256] * 3, number=3)
        self.networks.actor.eval()
        self.noise = noise
        self.mean, self.std = torch.zeros(state_size), torch.ones(state_size)

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

    uses = {
        "exploration": (ExplorationType.RANDOM, agent.explore, plain.explore),
        "evaluation": (ExplorationType.DETERMINISTIC, agent.policies["hybrid"], plain.evaluate),
    }
    rows = []
    for use, (mode, policy, plain_policy) in uses.items():
        compiled = torch.compile(policy, fullgraph=True)
        with torch.no_grad(), set_exploration_type(mode):
            ours, theirs, fused = medians(
                lambda act=policy: act(observation.copy()),
                lambda act=plain_policy: act(state),
                lambda act=compiled: act(observation.copy()),
                calls=calls,
            )
        ratios = [f"{each / theirs:.2f}" for each in (ours, fused)]
        rows.append([use, f"{ours:.3f}", f"{theirs:.3f}", ratios[0], f"{fused:.3f}", ratios[1]])
    return rows


def medians(*functions, calls: int) -> list[float]:
    """Median milliseconds of a call of each function, in turns."""
    rounds = [[timed(each) for each in functions] for _ in range(calls)]
    return [median(seconds) * 1e3 for seconds in zip(*rounds, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--calls", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    report(COLUMNS, measure(options.calls), options.csv)


if __name__ == "__main__":
    main()
