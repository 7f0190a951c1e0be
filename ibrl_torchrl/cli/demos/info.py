"""``ibrl demos info FILE``: contents of a file of demonstrations."""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.config.commands import DemosInfoConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.data.demos.describe import DemoDescription, describe_demos
from ibrl_torchrl.envs.env_args import signature


def run(config: DemosInfoConfig) -> None:
    """Print the description of a file, one property a line.

    Raises:
        UsageError: the file is missing, damaged, or not in robomimic's layout.
    """
    path = Path(config.file)
    description = describe_demos(path)
    rows = _properties(path, description)
    width = max(map(len, rows))
    for name, value in rows.items():
        echo(f"{name:{width}}  {value}")
    if not description.observations:
        echo(f"no observations: make them with: ibrl demos render {path} out=...")


def _properties(path: Path, description: DemoDescription) -> dict[str, object]:
    args, lengths = description.env_args, description.lengths
    smallest, largest = description.action_range
    return {
        "file": f"{path}, {path.stat().st_size / 1e6:.1f} MB",
        "task": f"{args.get('env_name', 'unknown')} "
        f"(recorded with version {args.get('env_version', 'unknown')} of its simulator)",
        **signature(args),
        "episodes": len(description.episodes),
        "transitions": sum(lengths),
        "length": f"{min(lengths)} to {max(lengths)}, mean {sum(lengths) / len(lengths):.1f}",
        "success": "no rewards"
        if description.successes is None
        else f"{description.successes} episodes",
        "actions": f"{description.action_size} numbers from {smallest:.3g} to {largest:.3g}",
        **(
            {
                "labels": f"the expert's in {description.num_labelled} episodes, which another "
                "policy executed (DAgger)"
            }
            if description.num_labelled
            else {}
        ),
        "simulator states": "yes" if description.has_states else "no: cannot be played back",
        "models": "yes" if description.has_models else "no",
        **{
            f"filter key {key}": f"{len(names)} episodes"
            for key, names in description.filters.items()
        },
        **{f"observation {key}": value for key, value in description.observations.items()},
    }
