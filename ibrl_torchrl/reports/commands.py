"""Commands of runs, each quoted once: those that differ only in the seed are one."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict

from ibrl_torchrl.reports.comparison import Comparison, format_seeds
from ibrl_torchrl.reports.run_tables import Row
from ibrl_torchrl.runs.reader import Run

# A value in quotes of Hydra's that it does not need.
_QUOTED = re.compile(r"(?P<name>[^=]+=)(?P<quote>['\"])(?P<value>[\w./-]+)(?P=quote)")


def command_table(comparison: Comparison) -> list[Row]:
    """Commands of a comparison, with the methods and seeds of their runs."""
    seeds: dict[tuple[str, str], list[int]] = defaultdict(list)
    for method, runs in comparison.methods.items():
        for run in runs:
            if run.provenance.get("command"):
                seeds[method, _without_seed(run)].append(run.seed)
    return [
        {"method": method, "seeds": format_seeds(members), "command": command}
        for (method, command), members in seeds.items()
    ]


def _without_seed(run: Run) -> str:
    """Command with ``N`` in place of the seed, in settings and in paths."""
    return re.sub(_seed_of(run), r"seed\1N", simplified(run.provenance["command"]))


def _seed_of(run: Run) -> str:
    """Pattern of the seed in settings, not of another such as ``demos.seed``, and in paths."""
    return rf"(?<![._])seed(=?){run.seed}(?!\d)"


def simplified(command: object) -> str:
    """Command without the quotes that it does not need.

    Example:
        >>> from ibrl_torchrl.reports.commands import simplified
        >>> print(simplified("ibrl train 'run_dir='\\"'\\"'runs/a'\\"'\\"''"))
        ibrl train run_dir=runs/a
    """
    try:
        words = shlex.split(str(command))
    except ValueError:  # not of a shell
        return str(command)
    return shlex.join(_QUOTED.sub(r"\g<name>\g<value>", word) for word in words)
