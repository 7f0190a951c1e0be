"""``ibrl runs FOLDER ...``: run folders with their state, success and time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ibrl_torchrl.config.commands import RunsConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.runs.listing import format_runs, list_runs


def run(config: RunsConfig) -> None:
    """Print a table of the runs, and how many are in each state.

    Raises:
        UsageError: a folder does not exist or contains no run.
    """
    runs = list_runs(map(Path, config.folders))
    for line in format_runs(runs):
        echo(line)
    states = Counter(run.state for run in runs)
    echo(", ".join(f"{number} {state}" for state, number in states.items()))
