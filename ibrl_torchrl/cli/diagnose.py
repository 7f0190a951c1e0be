"""``ibrl diagnose RUN``: values against returns, proposals over time, imitation off the demos."""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.config.commands import DiagnoseConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.envs.requirements import require_simulator
from ibrl_torchrl.evaluation.diagnosis import rollouts_from_states, score_episodes
from ibrl_torchrl.evaluation.diagnosis_inputs import (
    memoryless_expert,
    return_discount,
    run_demonstrations,
)
from ibrl_torchrl.evaluation.diagnosis_tables import summary, write_rollouts, write_scored_steps
from ibrl_torchrl.evaluation.load import load_run
from ibrl_torchrl.runs.names import DIAGNOSIS_ROLLOUTS, DIAGNOSIS_STEPS


def run(config: DiagnoseConfig) -> None:
    """Write ``diagnosis_steps.csv`` and ``diagnosis_rollouts.csv`` to the run folder; print a
    summary.

    Raises:
        UsageError: the folder is not a run folder, its demonstrations are missing, or its
            environment has no simulator states.
    """
    run_dir = Path(config.run)
    run = load_run(run_dir, seed=config.seed, threads=config.threads, device=config.device)
    agent, task = run.agent, run.config.task
    require_simulator(run.env, "ibrl diagnose")
    demos = run_demonstrations(run_dir, run.config.demos)
    gamma = return_discount(run.config)

    seeds = range(config.seed, config.seed + config.episodes)
    scoring = score_episodes(run.env, agent.scored, seeds, agent.proposals)
    episodes = [*progress_bar(scoring, desc="episodes", total=config.episodes, unit="episode")]
    write_scored_steps(run_dir / DIAGNOSIS_STEPS, episodes, agent.proposals, gamma)

    policies = {name: agent.policies[name] for name in run.config.imitation}
    expert = memoryless_expert(run.config.demos.expert or task.suite, task.name)
    rolling_out = rollouts_from_states(
        run.env, policies, expert, demos, episodes, config.num_states
    )
    total = 2 * config.num_states * len(policies)
    rollouts = [*progress_bar(rolling_out, desc="rollouts", total=total, unit="rollout")]
    write_rollouts(run_dir / DIAGNOSIS_ROLLOUTS, rollouts)

    for line in summary(episodes, rollouts, agent.proposals, gamma):
        echo(line)
    echo(f"tables: {run_dir / DIAGNOSIS_STEPS}, {DIAGNOSIS_ROLLOUTS}")
