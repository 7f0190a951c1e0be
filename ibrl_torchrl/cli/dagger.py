"""``ibrl dagger``: an imitation policy from the expert's labels of states that it visits itself."""

from __future__ import annotations

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.experts import any_state_expert
from ibrl_torchrl.builders.imitation import policy_path
from ibrl_torchrl.config.commands import DaggerRunConfig
from ibrl_torchrl.config.compose import trial_number
from ibrl_torchrl.console import echo
from ibrl_torchrl.evaluation.evaluate import Evaluation
from ibrl_torchrl.evaluation.table import format_table, write_evaluation
from ibrl_torchrl.runs.folder import open_run_folder, run_job
from ibrl_torchrl.runs.names import DEMOS, EVALUATION
from ibrl_torchrl.runs.spaces import write_spaces
from ibrl_torchrl.runtime import setup_process
from ibrl_torchrl.training.dagger import dagger_rounds
from ibrl_torchrl.training.demonstrations import require_images_fit
from ibrl_torchrl.training.imitation import evaluate_policies


def run(config: DaggerRunConfig) -> None:
    """Train and leave a run folder as ``ibrl bc`` does.

    ``demos.hdf5`` holds the episodes of all rounds with the expert's labels, ``imitation/NAME.pt``
    the last round's policy, ``evaluation.csv`` the episodes that evaluate each round's policy; its
    column ``frames`` is the number of labels that the policy was trained on.

    Raises:
        UsageError: something that the user can fix.
    """
    run_job(_run, config)


def _run(config: DaggerRunConfig) -> None:
    device = setup_process(config.seed, config.threads, config.device, trial_number())
    any_state_expert(config.demos, config.task, "DAgger")
    env = build_env(config.task, device)
    ((name, policy),) = config.imitation.items()
    require_images_fit(env, [policy.encoder])
    with open_run_folder(config.run_dir, config, config.if_exists) as (run_dir, _):
        write_spaces(run_dir, env)
        by_labels: dict[int, dict[str, Evaluation]] = {}
        by_round: dict[str, Evaluation] = {}
        for done in dagger_rounds(
            config.dagger,
            config.demos,
            config.task,
            config.imitation,
            env,
            device,
            run_dir,
            seed=config.seed,
        ):
            results = evaluate_policies(done.networks, config.imitation, env, config.eval)
            by_labels[done.labels] = results
            by_round[f"round {done.index}"] = results[name]
            echo(
                f"round {done.index}  beta {done.beta:.2f}  episodes {done.episodes:>4}  labels "
                f"{done.labels:>6}  success {results[name].success_rate:.2f} of "
                f"{config.eval.final_episodes}"
            )
        write_evaluation(run_dir / EVALUATION, by_labels, [name])
        echo(format_table(by_round))
        path, labels = policy_path(run_dir, name), run_dir / DEMOS
        echo(f"labels: {labels} (demos.path={labels} demos.episodes={done.episodes})")
        echo(f"policy: {path} (use it with: ibrl train imitation.{name}.path={path})")
