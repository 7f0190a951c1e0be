"""Success of a run's networks on Meta-World or robosuite when the critics choose in other ways.

    python tests/benchmarks/choices.py RUN [--csv FILE] [--episodes 50]

One row a choice: success, and the share of frames in which an imitation policy acted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tables import report
from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.builders.agent import Agent
from ibrl_torchrl.evaluation.load import load_run
from ibrl_torchrl.keys import NEXT, PROPOSAL, RL, RL_ACTION, SUCCESS
from ibrl_torchrl.modules import AgreementGate, IBRLSelector

COLUMNS = ["choice", "success", "imitation_share"]
FIRST_SEED = 500_000  # training and evaluations use others
CHOICES = {
    "all critics prefer RL": {"gate": AgreementGate()},
    "minimum": {},
    "mean": {"reduction": "mean"},
    "all critics prefer imitation": {"gate": AgreementGate(), "trusted": [RL_ACTION]},
}


def policies(agent: Agent) -> dict[str, TensorDictModuleBase]:
    """Policies that differ in the choice alone, and the RL actor."""
    (selector,) = [part for part in agent.scored.modules() if isinstance(part, IBRLSelector)]
    others = [part for part in agent.scored.module if part is not selector]
    chosen = {
        name: TensorDictSequential(
            *others, IBRLSelector(selector.critic, selector.proposals, **settings)
        )
        for name, settings in CHOICES.items()
    }
    return {**chosen, "RL alone": agent.policies[RL]}


@torch.no_grad()
def evaluate(env: EnvBase, policy: TensorDictModuleBase, episodes: int) -> tuple[float, float]:
    """Success rate and share of imitation."""
    successes, imitated, frames = 0, 0, 0
    for seed in range(FIRST_SEED, FIRST_SEED + episodes):
        env.set_seed(seed)
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            episode = env.rollout(10_000, policy)
        successes += int(episode[NEXT, SUCCESS].any())
        imitated += int((episode[PROPOSAL] > 0).sum())
        frames += len(episode)
    return successes / episodes, imitated / frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--episodes", type=int, default=50)
    options = parser.parse_args()
    loaded = load_run(options.run, seed=1, threads=1, device="cpu")
    rows = []
    for name, policy in policies(loaded.agent).items():
        success, share = evaluate(loaded.env, policy, options.episodes)
        rows.append([name, f"{success:.2f}", f"{share:.2f}"])
    report(COLUMNS, rows, options.csv)


if __name__ == "__main__":
    main()
