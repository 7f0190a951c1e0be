"""``ibrl demos info FILE``: what a file of demonstrations holds."""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.config.commands import DemosInfoConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.data.demos.describe import describe_demos
from ibrl_torchrl.envs.env_args import signature


def run(config: DemosInfoConfig) -> None:
    """Print a description.

    Raises:
        UsageError: the file is missing, damaged, or in another layout.
    """
    path = Path(config.file)
    about = describe_demos(path)
    args, lengths = about.env_args, about.lengths
    rows = {
        "file": f"{path}, {path.stat().st_size / 1e6:.1f} MB",
        "task": f"{args.get('env_name', 'not told')} "
        f"(recorded with version {args.get('env_version', 'not told')} of its simulator)",
        **{name: value for name, value in signature(args).items()},
        "episodes": len(about.episodes),
        "transitions": sum(lengths),
        "length": f"{min(lengths)} to {max(lengths)}, mean {sum(lengths) / len(lengths):.1f}",
        "success": "no rewards" if about.successes is None else f"{about.successes} episodes",
        "actions": f"{about.action_size} numbers from {about.action_range[0]:.3g} "
        f"to {about.action_range[1]:.3g}",
        "simulator states": "yes" if about.has_states else "no: cannot be replayed",
        "models": "yes" if about.has_models else "no",
        **{f"filter key {key}": f"{len(names)} episodes" for key, names in about.filters.items()},
        **{f"observation {key}": value for key, value in about.observations.items()},
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        echo(f"{name:{width}}  {value}")
    if not about.observations:
        echo(f"no observations: make them with: ibrl demos render {path} out=...")
