"""``ibrl demos info FILE``: contents of a file of demonstrations."""

from __future__ import annotations

import re
import shlex
from itertools import chain, count
from pathlib import Path

from ibrl_torchrl.config.commands import DemosInfoConfig, DemosRenderConfig
from ibrl_torchrl.config.compose import quoted
from ibrl_torchrl.console import echo
from ibrl_torchrl.data.demos.describe import DemoDescription, describe_demos
from ibrl_torchrl.data.demos.playback import open_playback, rerender
from ibrl_torchrl.envs.env_args import signature, suite_of
from ibrl_torchrl.errors import UsageError


def run(config: DemosInfoConfig) -> None:
    """Print the description of a file, one property a line, and how to get observations it lacks.

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
        echo(f"no observations: {_advice(path, description)}")


# Cameras to try: the default of `ibrl demos render`, the suite's others, none.
_CAMERAS = {"robosuite": ("agentview",), "metaworld": ("corner2",)}


def _advice(path: Path, description: DemoDescription) -> str:
    """How to render observations, tried on the first episode; or why it is impossible here."""
    if not description.has_states:
        return "and no simulator states in all episodes to render them from; record them again"
    reason = ""
    for cameras in ([*_CAMERAS.get(suite_of(description.env_args), ())], []):
        try:
            playback = open_playback(path, episodes=1, cameras=cameras)
            next(rerender(playback, tolerance=DemosRenderConfig.tolerance))
        except UsageError as error:
            reason = reason or str(error)
            continue
        out = _unused(path.with_name(f"{path.stem}-observations.hdf5"))
        settings = [_argument("file", str(path), is_first=True), _argument("out", str(out))]
        if cameras != DemosRenderConfig().cameras:
            settings.append(f"cameras=[{','.join(cameras)}]")
        return f"make them with: ibrl demos render {' '.join(settings)}"
    return f"they cannot be rendered here: {reason}"


def _argument(name: str, value: str, *, is_first: bool = False) -> str:
    """A setting as the shell and Hydra take it; the first argument needs no name."""
    if re.fullmatch(r"[\w./-]+", value):
        return value if is_first else f"{name}={value}"
    return shlex.quote(f"{name}={quoted(value)}")


def _unused(path: Path) -> Path:
    """A path beside which no file exists, numbered where one does."""
    numbered = (path.with_name(f"{path.stem}-{n}{path.suffix}") for n in count(2))
    return next(each for each in chain([path], numbered) if not each.exists())


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
