"""Which runs may be averaged, and what a reader must know before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ibrl_torchrl.runs.reader import Run

# The policy that a method is judged by.
JUDGED = "hybrid"
# What may differ between runs that are compared: where they are, and what changes no number.
_INCIDENTAL = {"run_dir", "seed", "device", "threads", "checkpoint_every", "log", "compile"}
_INCIDENTAL |= {"if_exists", "quiet"}
_PATHS = {"demos.path", "bc.path"}
# What must be the same for all methods of a comparison.
_COMMON = ("task", "frames", "eval", "demos")


@dataclass(frozen=True)
class Comparison:
    """Runs of one task with one budget, evaluated alike.

    Attributes:
        task: such as ``"metaworld/box-close"``.
        frames: budget of each run.
        every: frames between evaluations.
        methods: finished runs by method, in the order of their seeds. Where settings differ
            within a method, each group has an entry, named by what differs.
        notes: what a reader must know, one sentence each.
    """

    task: str
    frames: int
    every: int
    methods: Mapping[str, tuple[Run, ...]]
    notes: tuple[str, ...]

    @property
    def runs(self) -> list[Run]:
        return [run for runs in self.methods.values() for run in runs]


def compare(runs: Iterable[Run]) -> list[Comparison]:
    """Group runs that may be compared; runs of other tasks, budgets or evaluations stay apart."""
    groups = defaultdict(list)
    for run in runs:
        told = _settings(run).items()
        common = [(name, value) for name, value in told if name.split(".")[0] in _COMMON]
        groups[run.task, run.frames, repr(sorted(common))].append(run)
    tasks = [task for task, *_ in groups]
    return [
        _comparison(members, is_one_of_several=tasks.count(task) > 1)
        for (task, *_), members in sorted(groups.items(), key=lambda item: item[0])
    ]


def _comparison(runs: list[Run], *, is_one_of_several: bool) -> Comparison:
    notes = []
    if is_one_of_several:
        notes.append(
            "Other runs of this task have another budget, other demonstrations or another "
            "evaluation; they are shown apart."
        )
    finished = [run for run in runs if JUDGED in run.final]
    for run in runs:
        if run not in finished:
            reached = max((p.frames for points in run.curves.values() for p in points), default=0)
            notes.append(
                f"{run.method}, seed {run.seed}, did not finish (last evaluated at frame "
                f"{reached} of {run.frames}) and is left out: {run.path}."
            )
    methods: dict[str, tuple[Run, ...]] = {}
    for method, members in _by_method(finished):
        notes += _untold_settings(method, members)
        for label, variant in _variants(method, members):
            chosen: dict[int, Run] = {}
            for run in variant:
                if chosen.setdefault(run.seed, run) is not run:
                    notes.append(
                        f"{label} has two runs of seed {run.seed}: {chosen[run.seed].path} counts, "
                        f"{run.path} is left out."
                    )
            methods[label] = tuple(chosen.values())
    notes += _missing_seeds(methods)
    notes += _unlike_inputs(methods)
    every = runs[0].config["eval"]["every"]
    return Comparison(runs[0].task, runs[0].frames, every, methods, tuple(notes))


def _by_method(runs: list[Run]) -> Iterator[tuple[str, list[Run]]]:
    """Runs by method in the order of their seeds, IBRL first."""
    ordered = sorted(runs, key=lambda run: (run.method != "ibrl", run.method, run.seed))
    for method, members in groupby(ordered, key=lambda run: run.method):
        yield method, [*members]


def _variants(method: str, runs: list[Run]) -> Iterator[tuple[str, list[Run]]]:
    """Runs of one method by their settings; all but the largest group are named by what differs."""
    flats = [_settings(run) for run in runs]
    told = set.intersection(*map(set, flats))
    groups = defaultdict(list)
    for run, flat in zip(runs, flats, strict=True):
        groups[tuple((key, str(flat[key])) for key in sorted(told))].append(run)
    main, *others = sorted(groups, key=lambda settings: -len(groups[settings]))
    yield method, groups[main]
    for settings in others:
        differing = (f"{key}={value}" for key, value in {*settings} - {*main})
        yield f"{method}, {', '.join(sorted(differing))}", groups[settings]


def _untold_settings(method: str, runs: list[Run]) -> Iterator[str]:
    flats = [_settings(run) for run in runs]
    untold = set.union(*map(set, flats)) - set.intersection(*map(set, flats))
    if untold:
        named = ", ".join(sorted(untold))
        yield f"Not all runs of {method} tell {named}: they are of different versions."


def _missing_seeds(methods: Mapping[str, tuple[Run, ...]]) -> Iterator[str]:
    seeds = {run.seed for runs in methods.values() for run in runs}
    for method, runs in methods.items():
        missing = sorted(seeds - {run.seed for run in runs})
        if missing:
            named = ", ".join(map(str, missing))
            yield f"{method} has no run of seed {named}."


def _unlike_inputs(methods: Mapping[str, tuple[Run, ...]]) -> Iterator[str]:
    """Seeds whose methods did not start from the same demonstrations and BC policy."""
    for name, key in (("demonstrations", "demos"), ("BC policy", "bc")):
        found = defaultdict(set)
        for run in (run for runs in methods.values() for run in runs):
            found[run.seed].add(run.inputs.get(key))
        unlike = sorted(seed for seed, hashes in found.items() if len(hashes) > 1)
        if unlike:
            named = ", ".join(map(str, unlike))
            yield f"Methods do not share the {name} (seed {named})."


def _settings(run: Run) -> dict[str, Any]:
    """A run's settings without what changes no number."""
    return {
        name: value
        for name, value in run.settings.items()
        if name.split(".")[0] not in _INCIDENTAL and name not in _PATHS
    }
