"""``ibrl bc``: train and evaluate an imitation policy."""

from __future__ import annotations

from ibrl_torchrl.builders.agent import bc_policy, executing
from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.imitation import given_bc, save_bc
from ibrl_torchrl.builders.normalization import observation_scales
from ibrl_torchrl.config.commands import BCRunConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.evaluation.evaluate import EvaluationJob
from ibrl_torchrl.evaluation.table import format_table, write_evaluation
from ibrl_torchrl.rollouts.episode import LocalRollouts
from ibrl_torchrl.runs.folder import EVALUATION, open_run_folder, run_job
from ibrl_torchrl.runtime import setup_process
from ibrl_torchrl.training.demonstrations import (
    demo_keys,
    given_demos,
    recorded_demos,
    require_images_fit,
)
from ibrl_torchrl.training.imitation import trained_bc


def run(config: BCRunConfig) -> None:
    """Leave a run folder with the demonstrations, ``bc.pt`` and ``evaluation.csv``."""
    run_job(_run, config)


def _run(config: BCRunConfig) -> None:
    device = setup_process(config.seed, config.threads, config.device)
    env = build_env(config.task, device)
    require_images_fit(env, config.bc.encoder)
    keys = demo_keys(config.bc.encoder)
    demos = given_demos(config.demos, config.task, env, keys)
    network = given_bc(config.bc, config.task, env)
    with open_run_folder(config.run_dir, config, config.if_exists) as (run_dir, _):
        demos = demos or recorded_demos(config.demos, config.task, keys, run_dir)
        if network is None:
            scales = observation_scales(config.task, env, demos.episodes)
            network = trained_bc(config.bc, demos, scales, env, device)
        save_bc(run_dir / "bc.pt", network, config.bc, config.task)
        rollouts = LocalRollouts(env, {"bc": executing(bc_policy(network, config.bc.encoder))})
        seeds = range(config.eval.seed, config.eval.seed + config.eval.final_episodes)
        results = EvaluationJob(rollouts, ["bc"], seeds).results()
        write_evaluation(run_dir / EVALUATION, 0, results)
        echo(format_table(results))
        echo(f"policy: {run_dir / 'bc.pt'} (use it with: ibrl train bc.path=...)")
