"""Evaluations as a table for people and as CSV files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase

from ibrl_torchrl.files import write_table
from ibrl_torchrl.training.evaluate import Evaluation, evaluate
from ibrl_torchrl.training.progress import bar


def evaluate_policies(
    env: EnvBase, policies: Mapping[str, TensorDictModuleBase], seed: int, episodes: int
) -> dict[str, Evaluation]:
    """Evaluate several policies from the same start states, with a progress bar.

    A policy that has two names is evaluated once.
    """
    results = {}
    seeds = range(seed, seed + episodes)
    distinct = {id(policy): policy for policy in policies.values()}.values()
    with bar(
        total=len(distinct) * episodes, desc="evaluation", unit="episode", leave=False
    ) as shown:
        for policy in distinct:
            result = evaluate(env, policy, seeds, lambda _: shown.update())
            results |= {name: result for name, each in policies.items() if each is policy}
    return {name: results[name] for name in policies}


def format_table(results: Mapping[str, Evaluation]) -> str:
    """The figures of several policies, one line each."""
    lines = [f"{'policy':8} {'success':>8} {'95 % interval':>15} {'length':>7} {'IL share':>9}"]
    for name, result in results.items():
        low, high = result.interval
        length = "-" if math.isnan(result.success_length) else f"{result.success_length:.1f}"
        lines.append(
            f"{name:8} {result.success_rate:8.2f} {f'{low:.2f} to {high:.2f}':>15} "
            f"{length:>7} {result.il_share:9.2f}"
        )
    return "\n".join(lines)


def write_evaluation(path: Path, frames: int, results: Mapping[str, Evaluation]) -> None:
    """Write every episode of several policies to a CSV file."""
    write_table(
        path,
        ["frames", "policy", "seed", "success", "length", "il_frames"],
        (
            (frames, name, each.seed, int(each.success), each.frames, each.il_frames)
            for name, result in results.items()
            for each in result.episodes
        ),
    )
