"""Charts of diagnoses (see ``ibrl diagnose``): imitation actions over an episode, by method."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ibrl_torchrl.reports.charts import Chart, Line, Reference, dash_meanings, policy_dashes
from ibrl_torchrl.reports.comparison import Comparison
from ibrl_torchrl.reports.curves import aggregate
from ibrl_torchrl.reports.diagnosis_tables import (
    Diagnosis,
    Step,
    advantage_of,
    episode_profile,
    execution_of,
)
from ibrl_torchrl.reports.palette import REFERENCE, LineStyle, method_style

_PART = "fraction of the episode"


def diagnosis_charts(comparison: Comparison, diagnoses: Sequence[Diagnosis]) -> list[Chart]:
    """Share and advantage of imitation actions over an episode; empty without a diagnosis."""
    if not diagnoses:
        return []
    dashes = policy_dashes(comparison.imitation)
    meanings = dash_meanings(dashes)
    return [
        Chart(
            "imitation_in_episode",
            "Imitation actions within an episode",
            "Share of imitation actions among those executed in each tenth of an episode.",
            _PART,
            "share of imitation actions",
            _lines(comparison, diagnoses, execution_of),
            meanings=meanings,
        ),
        Chart(
            "advantage_in_episode",
            "Value of imitation actions within an episode",
            "Critics' value of the imitation action minus that of the RL actor's.",
            _PART,
            "Q(imitation) - Q(RL)",
            _lines(comparison, diagnoses, advantage_of),
            references=(Reference("", 0.0, LineStyle(REFERENCE)),),
            meanings=meanings,
            is_share=False,
        ),
    ]


def _lines(
    comparison: Comparison,
    diagnoses: Sequence[Diagnosis],
    metric_of: Callable[[str], Callable[[Step], float]],
) -> tuple[Line, ...]:
    """One line a method and imitation policy, aggregated over the method's diagnosed runs."""
    dashes = policy_dashes(comparison.imitation)
    lines = []
    for number, method in enumerate(comparison.methods):
        for name in comparison.imitation:
            profiles = [
                dict(zip(*episode_profile(diagnosis, metric_of(name)), strict=True))
                for diagnosis in diagnoses
                if diagnosis.method == method and name in diagnosis.imitation
            ]
            curve = aggregate(profiles) if profiles else None
            if curve is not None:
                label = f"{method}: {name}" if len(comparison.imitation) > 1 else method
                lines.append(Line(label, number, method_style(number, dashes[name]), curve))
    return tuple(lines)
