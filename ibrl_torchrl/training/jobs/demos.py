"""``ibrl demos``: record scripted demonstrations."""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.data import load_demos
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.training.config import DemosRunConfig
from ibrl_torchrl.training.prepare import record_to
from ibrl_torchrl.training.progress import say


def run(config: DemosRunConfig) -> None:
    """Record successful episodes to ``out`` and print what they are.

    Raises:
        UsageError: the file exists or cannot be written, or the expert succeeds too rarely.
    """
    path = Path(config.out)
    if path.exists():
        raise UsageError(f"{path}: exists already; choose another out=")
    try:
        record_to(path, config.demos, config.task)
    except OSError as error:
        raise UsageError(f"{path}: cannot write here ({error.strerror})") from error
    summary = load_demos(path).summary()
    say(
        f"{path}: {summary['episodes']} episodes, {summary['transitions']} transitions, "
        f"length {summary['length_min']} to {summary['length_max']} "
        f"(mean {summary['length_mean']:.1f}), success {summary['success_rate']:.2f}"
    )
