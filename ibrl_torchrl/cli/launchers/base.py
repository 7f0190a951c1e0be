"""Interface of launchers: what to run, and a sweep that runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Sweep:
    """Runs of a command, one for every combination of some settings' values.

    Attributes:
        command: ``"bc"`` or ``"train"``.
        overrides: settings of every run, such as ``"if_exists=resume"``.
        runs: values by setting, such as ``{"seed": "1", "algo": "ibrl"}``, by run folder. Together
            they are all combinations.
    """

    command: str
    overrides: Sequence[str]
    runs: Mapping[Path, Mapping[str, str]]

    @property
    def axes(self) -> dict[str, list[str]]:
        """Values of each setting that differs between runs, each once."""
        names = dict.fromkeys(name for values in self.runs.values() for name in values)
        return {
            name: [*dict.fromkeys(values[name] for values in self.runs.values())] for name in names
        }


class RunningSweep(Protocol):
    """Sweep that a launcher has started."""

    def is_done(self) -> bool:
        """Whether no run goes on."""
        ...

    def interrupt(self) -> None:
        """Wait until all runs have stopped, which write checkpoints."""
        ...

    def failures(self) -> Iterator[str]:
        """Why runs were lost, where their own logs cannot tell."""
        ...


class Launcher(Protocol):
    """Starts the runs of a sweep and resumes unfinished ones."""

    def start(self, sweep: Sweep, log: Path) -> RunningSweep:
        """Start the runs of a sweep.

        Args:
            sweep: runs, of which none is finished by another process.
            log: file that output of processes is appended to.
        """
        ...
