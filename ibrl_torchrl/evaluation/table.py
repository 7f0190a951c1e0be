"""Evaluations as a text table and as a CSV file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ibrl_torchrl.evaluation.evaluate import Evaluation
from ibrl_torchrl.files import write_table
from ibrl_torchrl.keys import RL
from ibrl_torchrl.runs.tables import evaluation_columns


def format_table(results: Mapping[str, Evaluation]) -> str:
    """Text table with one line a policy.

    Args:
        results: evaluations by policy name; all count the same proposals.

    Returns:
        Lines with the policy's name, success rate, 95 % interval, mean length of the successful
        episodes, and the share of each imitation policy among the executed actions.
    """
    proposals = dict.fromkeys(name for each in results.values() for name in each.proposal_shares)
    imitation = [name for name in proposals if name != RL]
    header = ["policy", "success", "95 % interval", "length", *(f"{n} share" for n in imitation)]
    rows = [header]
    for policy, result in results.items():
        low, high = result.interval
        length = "-" if math.isnan(result.success_length) else f"{result.success_length:.1f}"
        shares = (f"{result.proposal_shares[name]:.2f}" for name in imitation)
        rows.append(
            [policy, f"{result.success_rate:.2f}", f"{low:.2f} to {high:.2f}", length, *shares]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([first.ljust(widths[0]), *map(str.rjust, others, widths[1:])])
        for first, *others in rows
    )


def write_evaluation(
    path: Path, results: Mapping[int, Mapping[str, Evaluation]], proposals: Sequence[str]
) -> None:
    """Write the episodes of several policies to a CSV file, one row each.

    Args:
        path: file to write, whole or not at all; columns as in :func:`evaluation_columns`.
        results: evaluations by training frames, then by policy name.
        proposals: names of the proposals to list.

    Raises:
        UsageError: the folder cannot be written to.
    """
    write_table(
        path,
        evaluation_columns(proposals),
        (
            (
                *(frames, policy, episode.seed, int(episode.success), episode.frames),
                *(episode.proposal_frames[name] for name in proposals),
            )
            for frames, evaluations in results.items()
            for policy, result in evaluations.items()
            for episode in result.episodes
        ),
    )
