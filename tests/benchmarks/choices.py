"""Success of a run's networks on Meta-World or robosuite when the critics choose in other ways.

    python tests/benchmarks/choices.py RUN [--csv FILE] [--episodes 50]

One row a choice: success, and the share of frames in which an imitation policy acted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tables import report
from tensordict.nn import TensorDictModuleBase, TensorDictSequential

from ibrl_torchrl.builders.agent import Agent
from ibrl_torchrl.evaluation.evaluate import EvaluationJob
from ibrl_torchrl.evaluation.load import load_run
from ibrl_torchrl.keys import RL, RL_ACTION
from ibrl_torchrl.modules import AgreementGate, IBRLSelector
from ibrl_torchrl.rollouts.episode import LocalRollouts

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--episodes", type=int, default=50)
    options = parser.parse_args()
    loaded = load_run(options.run, seed=1, threads=1, device="cpu")
    rollouts = LocalRollouts(loaded.env, policies(loaded.agent))
    seeds = range(FIRST_SEED, FIRST_SEED + options.episodes)
    job = EvaluationJob(rollouts, [*rollouts.policies], seeds, loaded.agent.proposals)
    rows = [
        [name, f"{each.success_rate:.2f}", f"{1 - each.proposal_shares[RL]:.2f}"]
        for name, each in job.results().items()
    ]
    report(COLUMNS, rows, options.csv)


if __name__ == "__main__":
    main()
