"""``ibrl bc``: train and evaluate imitation policies alone."""

from __future__ import annotations

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.imitation import policy_path
from ibrl_torchrl.builders.networks import policy_keys
from ibrl_torchrl.builders.normalization import observation_normalizers
from ibrl_torchrl.config.commands import BCRunConfig
from ibrl_torchrl.config.compose import trial_number
from ibrl_torchrl.console import echo
from ibrl_torchrl.evaluation.table import format_table, write_evaluation
from ibrl_torchrl.runs.folder import open_run_folder, run_job
from ibrl_torchrl.runs.names import EVALUATION
from ibrl_torchrl.runs.spaces import write_spaces
from ibrl_torchrl.runtime import setup_process
from ibrl_torchrl.training.demonstrations import (
    load_configured_demos,
    recorded_demos,
    require_images_fit,
)
from ibrl_torchrl.training.imitation import (
    evaluate_policies,
    imitation,
    load_configured_policies,
)


def run(config: BCRunConfig) -> None:
    """Train and leave a run folder with demonstrations, policies and ``evaluation.csv``.

    Raises:
        UsageError: something that the user can fix.
    """
    run_job(_run, config)


def _run(config: BCRunConfig) -> None:
    device = setup_process(config.seed, config.threads, config.device, trial_number())
    env = build_env(config.task, device)
    encoders = [policy.encoder for policy in config.imitation.values()]
    require_images_fit(env, encoders)
    keys = policy_keys(*encoders)
    demos = load_configured_demos(config.demos, config.task, env, keys)
    networks = load_configured_policies(config.imitation, config.task, env)
    with open_run_folder(config.run_dir, config, config.if_exists) as (run_dir, _):
        write_spaces(run_dir, env)
        demos = demos or recorded_demos(config.demos, config.task, keys, run_dir)
        networks = imitation(
            config.imitation,
            networks,
            config.task,
            demos.episodes,
            observation_normalizers(config.task, env, demos.episodes),
            env,
            device,
            run_dir,
        )
        results = evaluate_policies(networks, config.imitation, env, config.eval)
        write_evaluation(run_dir / EVALUATION, {0: results}, [*results])
        echo(format_table(results))
        for name in results:
            path = policy_path(run_dir, name)
            echo(f"policy: {path} (use it with: ibrl train imitation.{name}.path={path})")
