"""Comparisons: runs that may be averaged, and notes on what limits a comparison."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ibrl_torchrl.keys import HYBRID
from ibrl_torchrl.runs.reader import Run

# Settings that may differ between runs of a method, for they change no result.
_IGNORED = {"run_dir", "seed", "device", "threads", "checkpoint_every", "log", "compile"}
_IGNORED |= {"if_exists", "quiet", "resume"}
# Settings that all runs of a comparison share.
_SHARED = ("task", "total_frames", "eval", "demos")
_MOST_NOTES = 3  # on single unfinished runs of a method


@dataclass(frozen=True)
class Comparison:
    """Runs of one task with the same budget, demonstrations and evaluation.

    Attributes:
        task: such as ``"metaworld/box-close"``.
        frames: budget of each run.
        every: interval of evaluations in frames.
        methods: finished runs by method, sorted by seed. Where settings differ within a method,
            each group of runs has its own entry, whose name lists the differences.
        notes: missing seeds, unfinished runs and other limits, one sentence each.
    """

    task: str
    frames: int
    every: int
    methods: Mapping[str, tuple[Run, ...]]
    notes: tuple[str, ...]

    @property
    def runs(self) -> list[Run]:
        """Runs of all methods."""
        return [run for runs in self.methods.values() for run in runs]

    @property
    def imitation(self) -> list[str]:
        """Names of all runs' imitation policies."""
        return list(dict.fromkeys(name for run in self.runs for name in run.imitation))


def compare(runs: Iterable[Run]) -> list[Comparison]:
    """Group runs into comparisons by task, budget, demonstrations and evaluation."""
    groups = defaultdict(list)
    for run in runs:
        settings = result_settings(run).items()
        shared = [(name, value) for name, value in settings if name.split(".")[0] in _SHARED]
        groups[run.task, run.total_frames, repr(sorted(shared))].append(run)
    tasks = [task for task, *_ in groups]
    return [
        _comparison(members, is_one_of_several=tasks.count(task) > 1)
        for (task, *_), members in sorted(groups.items(), key=lambda item: item[0])
    ]


def result_settings(run: Run) -> dict[str, Any]:
    """Settings of a run that its results depend on, by dotted names."""
    return {
        name: value
        for name, value in run.settings.items()
        if name.split(".")[0] not in _IGNORED and not is_input_path(name)
    }


def is_input_path(setting: str) -> bool:
    """Whether a setting is the path of demonstrations or of an imitation policy."""
    return setting.startswith(("demos.", "imitation.")) and setting.endswith(".path")


def format_setting(value: object) -> str:
    """Text of a setting's value, lists as on the command line: ``[rl,bc]``."""
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _comparison(runs: list[Run], *, is_one_of_several: bool) -> Comparison:
    notes = []
    if is_one_of_several:
        notes.append(
            "Other runs of this task have a different budget, demonstrations or evaluation; they "
            "are compared separately."
        )
    finished = [run for run in runs if HYBRID in run.final]
    notes += _unfinished(run for run in runs if HYBRID not in run.final)
    methods: dict[str, tuple[Run, ...]] = {}
    for method, members in _by_method(finished):
        notes += _partial_settings(method, members)
        for label, variant in _variants(method, members):
            by_seed: dict[int, Run] = {}
            for run in variant:
                if by_seed.setdefault(run.seed, run) is not run:
                    notes.append(
                        f"{label} has two runs of seed {run.seed}: {by_seed[run.seed].path} is "
                        f"included, {run.path} is excluded."
                    )
            methods[label] = tuple(by_seed.values())
    notes += _missing_seeds(methods)
    notes += _different_inputs(run for members in methods.values() for run in members)
    notes += _different_commits(methods)
    return Comparison(runs[0].task, runs[0].total_frames, runs[0].eval_every, methods, tuple(notes))


def _by_method(runs: list[Run]) -> Iterator[tuple[str, list[Run]]]:
    """Runs by method, sorted by seed; IBRL comes first."""
    ordered = sorted(runs, key=lambda run: (run.method != "ibrl", run.method, run.seed))
    for method, members in groupby(ordered, key=lambda run: run.method):
        yield method, [*members]


def _variants(method: str, runs: list[Run]) -> Iterator[tuple[str, list[Run]]]:
    """Runs of one method by their settings; names of all but the largest group list differences."""
    settings = [result_settings(run) for run in runs]
    names = sorted(name for name in settings[0] if all(name in values for values in settings))
    groups = defaultdict(list)
    for run, values in zip(runs, settings, strict=True):
        groups[tuple((name, format_setting(values[name])) for name in names)].append(run)
    main, *others = sorted(groups, key=lambda group: -len(groups[group]))
    yield method, groups[main]
    for group in others:
        differences = sorted(f"{name}={value}" for name, value in {*group} - {*main})
        yield f"{method}, {', '.join(differences)}", groups[group]


def format_seeds(seeds: Iterable[int]) -> str:
    """Seeds in ascending order, three or more successive ones as a range.

    Example:
        >>> from ibrl_torchrl.reports.comparison import format_seeds
        >>> format_seeds([1, 2, 3, 7, 8])
        '1 to 3, 7, 8'
    """
    parts = []
    # Successive seeds have the same difference from their rank.
    for _, group in groupby(enumerate(sorted({*seeds})), key=lambda item: item[1] - item[0]):
        members = [str(seed) for _, seed in group]
        parts += [f"{members[0]} to {members[-1]}"] if len(members) > 2 else members
    return ", ".join(parts)


def _unfinished(runs: Iterable[Run]) -> Iterator[str]:
    for method, members in _by_method([*runs]):
        if len(members) > _MOST_NOTES:
            seeds = format_seeds(run.seed for run in members)
            yield f"{method}, seeds {seeds}: {len(members)} runs are unfinished and excluded."
        else:
            yield from map(_unfinished_run, members)


def _unfinished_run(run: Run) -> str:
    frames = [point.frames for points in run.curves.values() for point in points]
    return (
        f"{run.method}, seed {run.seed}, is unfinished (last evaluation at frame "
        f"{max(frames, default=0)} of {run.total_frames}) and is excluded: {run.path}."
    )


def _partial_settings(method: str, runs: list[Run]) -> Iterator[str]:
    names = [{*result_settings(run)} for run in runs]
    partial = {name for name in names[0].union(*names) if not all(name in n for n in names)}
    if partial:
        yield (
            f"Runs of {method} are of different versions; only some have the settings "
            f"{', '.join(sorted(partial))}."
        )


def _missing_seeds(methods: Mapping[str, tuple[Run, ...]]) -> Iterator[str]:
    seeds = {run.seed for runs in methods.values() for run in runs}
    for method, runs in methods.items():
        missing = seeds - {run.seed for run in runs}
        if missing:
            yield f"{method} has no run of seed {format_seeds(missing)}."


def _different_inputs(runs: Iterable[Run]) -> Iterator[str]:
    """Seeds whose runs have different demonstrations or imitation policies of the same name."""
    hashes: dict[str, dict[int, set[str | None]]] = defaultdict(lambda: defaultdict(set))
    for run in runs:
        for name in ("demos", *run.imitation):
            hashes[name][run.seed].add(run.inputs.get(name))
    for name, by_seed in hashes.items():
        different = [seed for seed, values in by_seed.items() if len(values) > 1]
        if different:
            label = "demonstrations" if name == "demos" else f"imitation policy {name}"
            yield f"Methods do not share the {label} (seed {format_seeds(different)})."


def _different_commits(methods: Mapping[str, tuple[Run, ...]]) -> Iterator[str]:
    """Commits, with the methods and seeds of their runs, where there are several."""
    seeds: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for method, runs in methods.items():
        for run in runs:
            seeds[str(run.provenance.get("commit") or "no commit")][method].append(run.seed)
    if len(seeds) > 1:
        commits = (
            f"{commit} ({'; '.join(f'{m}, seed {format_seeds(s)}' for m, s in by_method.items())})"
            for commit, by_method in seeds.items()
        )
        yield f"Runs are of different commits: {', '.join(commits)}."
