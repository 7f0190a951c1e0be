"""``ibrl bc``: train and evaluate an imitation policy."""

from __future__ import annotations

from tensordict.nn import TensorDictSequential

from ibrl_torchrl.keys import BC_ACTION
from ibrl_torchrl.modules import ExecuteProposal
from ibrl_torchrl.training.builders import bc_policy, build_env
from ibrl_torchrl.training.config import BCRunConfig
from ibrl_torchrl.training.evaluate import evaluate
from ibrl_torchrl.training.prepare import (
    given_bc,
    given_demos,
    prepare_process,
    recorded_demos,
    save_bc,
    trained_bc,
)
from ibrl_torchrl.training.progress import bar, say
from ibrl_torchrl.training.report import format_table, write_evaluation
from ibrl_torchrl.training.run_folder import create_run_folder


def run(config: BCRunConfig) -> None:
    """Leave a run folder with the demonstrations, ``bc.pt`` and ``evaluation.csv``."""
    device = prepare_process(config.seed, config.threads, config.device)
    env = build_env(config.task, device)
    demos = given_demos(config.demos, env)
    network = given_bc(config.bc, config.task, env)
    run_dir = create_run_folder(config.run_dir, config)
    demos = demos or recorded_demos(config.demos, config.task, env, run_dir)
    network = network or trained_bc(config.bc, demos, device)
    save_bc(run_dir / "bc.pt", network, config.task)
    policy = TensorDictSequential(bc_policy(network), ExecuteProposal(BC_ACTION, 1))
    seeds = range(config.eval.seed, config.eval.seed + config.eval.final_episodes)
    with bar(total=len(seeds), desc="evaluation", unit="episode", leave=False) as shown:
        results = {"bc": evaluate(env, policy, seeds, lambda _: shown.update())}
    write_evaluation(run_dir / "evaluation.csv", 0, results)
    say(format_table(results))
    say(f"policy: {run_dir / 'bc.pt'} (use it with: ibrl train bc.path=...)")
