"""``ibrl bc``: train and evaluate an imitation policy."""

from __future__ import annotations

from ibrl_torchrl.training.builders import bc_policy, build_env, executing
from ibrl_torchrl.training.config import BCRunConfig
from ibrl_torchrl.training.evaluate import RunningEvaluation
from ibrl_torchrl.training.prepare import (
    demo_keys,
    given_bc,
    given_demos,
    prepare_process,
    recorded_demos,
    require_images_fit,
    save_bc,
    trained_bc,
)
from ibrl_torchrl.training.progress import say
from ibrl_torchrl.training.report import format_table, write_evaluation
from ibrl_torchrl.training.rollouts import LocalRollouts
from ibrl_torchrl.training.run_folder import EVALUATION, in_run_folder, run_folder
from ibrl_torchrl.training.scales import observation_scales


def run(config: BCRunConfig) -> None:
    """Leave a run folder with the demonstrations, ``bc.pt`` and ``evaluation.csv``."""
    in_run_folder(_run, config)


def _run(config: BCRunConfig) -> None:
    device = prepare_process(config.seed, config.threads, config.device)
    env = build_env(config.task, device)
    require_images_fit(env, config.bc.encoder)
    keys = demo_keys(config.bc.encoder)
    demos = given_demos(config.demos, config.task, env, keys)
    network = given_bc(config.bc, config.task, env)
    with run_folder(config.run_dir, config, config.if_exists) as (run_dir, _):
        demos = demos or recorded_demos(config.demos, config.task, keys, run_dir)
        if network is None:
            scales = observation_scales(config.task, env, demos.episodes)
            network = trained_bc(config.bc, demos, scales, env, device)
        save_bc(run_dir / "bc.pt", network, config.bc, config.task)
        rollouts = LocalRollouts(env, {"bc": executing(bc_policy(network, config.bc.encoder))})
        seeds = range(config.eval.seed, config.eval.seed + config.eval.final_episodes)
        results = RunningEvaluation(rollouts, ["bc"], seeds).results()
        write_evaluation(run_dir / EVALUATION, 0, results)
        say(format_table(results))
        say(f"policy: {run_dir / 'bc.pt'} (use it with: ibrl train bc.path=...)")
