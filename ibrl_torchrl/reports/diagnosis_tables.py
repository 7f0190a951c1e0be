"""Diagnoses of runs (see ``ibrl diagnose``): tables and averages over an episode."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import RL
from ibrl_torchrl.reports.comparison import Comparison
from ibrl_torchrl.runs import fields
from ibrl_torchrl.runs.names import DIAGNOSIS_ROLLOUTS, DIAGNOSIS_STEPS
from ibrl_torchrl.runs.tables import read_rows, value_column

PARTS = 10  # equal parts of an episode
SOURCES = ("demonstrated", "visited")

Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """Step of a scored episode.

    Attributes:
        part: index of the tenth of the episode that the step is in.
        success: whether the episode solved the task.
        proposal: name of the executed proposal.
        value: critics' value of the executed action.
        earned: discounted return from this step; None where the method learns of other rewards.
        values: critics' value of each proposal, by its name.
    """

    part: int
    success: bool
    proposal: str
    value: float
    earned: float | None
    values: Mapping[str, float]


@dataclass(frozen=True)
class Rollout:
    """Rollout of an imitation policy from a stored state.

    Attributes:
        policy: name of the imitation policy.
        source: ``"demonstrated"`` or ``"visited"``, where the state is from.
        success: whether the rollout solved the task.
        error: distance of the first action from the scripted expert's; None without one.
    """

    policy: str
    source: str
    success: bool
    error: float | None


@dataclass(frozen=True)
class Diagnosis:
    """Scored steps of the hybrid and rollouts of the imitation policies of one run."""

    method: str
    seed: int
    imitation: tuple[str, ...]
    steps: Sequence[Step]
    rollouts: Sequence[Rollout]


def read_diagnoses(comparison: Comparison) -> list[Diagnosis]:
    """Diagnoses of the runs that have one.

    Raises:
        UsageError: a table cannot be read.
    """
    return [
        Diagnosis(
            method,
            run.seed,
            run.imitation,
            _read(run.path / DIAGNOSIS_STEPS, partial(_step, proposals=run.proposals)),
            _read(run.path / DIAGNOSIS_ROLLOUTS, _rollout),
        )
        for method, runs in comparison.methods.items()
        for run in runs
        if (run.path / DIAGNOSIS_STEPS).is_file() and (run.path / DIAGNOSIS_ROLLOUTS).is_file()
    ]


def diagnosis_table(diagnoses: Iterable[Diagnosis], imitation: Sequence[str]) -> list[Row]:
    """Errors of the critics' values, and imitation policies in and off demonstrated states.

    Args:
        diagnoses: one row each.
        imitation: names of the imitation policies that have columns.
    """
    return [
        {
            "method": diagnosis.method,
            "seed": diagnosis.seed,
            "value_error_success": _mean(
                _value_error(step) for step in diagnosis.steps if step.success
            ),
            "value_error_failure": _mean(
                _value_error(step) for step in diagnosis.steps if not step.success
            ),
            **{
                f"success_{source}/{name}": _mean(
                    float(rollout.success) for rollout in _rollouts(diagnosis, name, source)
                )
                for name in imitation
                for source in SOURCES
            },
            **{
                f"error_{source}/{name}": _mean(
                    rollout.error for rollout in _rollouts(diagnosis, name, source)
                )
                for name in imitation
                for source in SOURCES
            },
        }
        for diagnosis in diagnoses
    ]


def mean_diagnosis_table(rows: Sequence[Row]) -> list[Row]:
    """Means over the diagnosed runs of each method, of those that have a value.

    Args:
        rows: see :func:`diagnosis_table`.

    Returns:
        Rows with the number of ``runs`` in place of the seed.
    """
    means = []
    for method in dict.fromkeys(row["method"] for row in rows):
        members = [row for row in rows if row["method"] == method]
        keys = [key for key in members[0] if key not in ("method", "seed")]
        values = {key: _mean(row[key] for row in members) for key in keys}
        means.append({"method": method, "runs": len(members), **values})
    return means


def episode_profile(
    diagnosis: Diagnosis, metric: Callable[[Step], float]
) -> tuple[list[float], list[float]]:
    """Mean of a metric of steps in each tenth of an episode.

    Returns:
        Middles of the tenths that have steps, as fractions of an episode, and the means.
    """
    parts: list[list[float]] = [[] for _ in range(PARTS)]
    for step in diagnosis.steps:
        parts[step.part].append(metric(step))
    middles = [(part + 0.5) / PARTS for part in range(PARTS) if parts[part]]
    return middles, [float(np.mean(values)) for values in parts if values]


def execution_of(proposal: str) -> Callable[[Step], float]:
    """Metric: 1 where a proposal was executed, else 0."""
    return lambda step: float(step.proposal == proposal)


def advantage_of(proposal: str) -> Callable[[Step], float]:
    """Metric: critics' value of a proposal minus that of the RL actor's."""
    return lambda step: step.values[proposal] - step.values[RL]


def _rollouts(diagnosis: Diagnosis, policy: str, source: str) -> list[Rollout]:
    return [r for r in diagnosis.rollouts if (r.policy, r.source) == (policy, source)]


def _value_error(step: Step) -> float | None:
    return None if step.earned is None else step.value - step.earned


def _mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are not None; None if there is none."""
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers else None


def _step(row: Mapping[str, str], proposals: Sequence[str]) -> Step:
    index, length = fields.count(row["step"]), fields.count(row["length"], at_least=1)
    if index >= length:
        raise ValueError(f"step {index} of {length}")
    return Step(
        part=index * PARTS // length,
        success=fields.flag(row["success"]),
        proposal=_choice(row["proposal"], proposals),
        value=fields.finite(row["value"]),
        earned=fields.optional(fields.finite, row["return"]),
        values={name: fields.finite(row[value_column(name)]) for name in proposals},
    )


def _rollout(row: Mapping[str, str]) -> Rollout:
    return Rollout(
        policy=fields.name(row["policy"]),
        source=_choice(row["source"], SOURCES),
        success=_choice(row["success"], ("True", "False")) == "True",
        error=fields.optional(fields.finite, row["error"]),
    )


def _choice(text: str, choices: Sequence[str]) -> str:
    if text not in choices:
        raise ValueError(f"{text!r} is not one of {', '.join(choices)}")
    return text


def _read(file: Path, parse: Callable[[Mapping[str, str]], T]) -> list[T]:
    """Parsed rows of a table.

    Raises:
        UsageError: the file cannot be read, or a row is not of this table.
    """
    try:
        return [parse(row) for row in read_rows(file)]
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UsageError(
            f"{file}: is damaged or not a table of ibrl diagnose; diagnose the run again"
        ) from error
