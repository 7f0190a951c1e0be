"""Charts of a comparison: lines with intervals."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ibrl_torchrl.keys import HYBRID, RL
from ibrl_torchrl.reports.comparison import Comparison
from ibrl_torchrl.reports.curves import Curve, method_curve, share_of
from ibrl_torchrl.reports.palette import (
    DASHED,
    REFERENCE,
    SOLID,
    Dashes,
    LineStyle,
    imitation_dashes,
    method_style,
)
from ibrl_torchrl.runs.reader import Run

FRAMES = "environment steps (after action repeat)"
# Methods that lack a part of IBRL; beside several other methods they have a figure of their own.
ABLATIONS = {"actor_proposal", "bootstrap_proposal", "td3", "ibrl_no_dropout"}


@dataclass(frozen=True)
class Line:
    """Line of a chart.

    Attributes:
        label: text in the legend.
        method: number of the method in its comparison.
        style: colour, dashes and marker.
        curve: points with intervals.
    """

    label: str
    method: int
    style: LineStyle
    curve: Curve


@dataclass(frozen=True)
class Reference:
    """Horizontal line at a value.

    Attributes:
        label: text in the legend; empty for none.
        value: height of the line.
        style: colour, dashes and marker.
    """

    label: str
    value: float
    style: LineStyle


@dataclass(frozen=True)
class Chart:
    """Lines over frames or over the parts of an episode.

    Attributes:
        name: end of the files' names, such as ``"curves"``.
        heading: text above the figure.
        caption: sentences on what is drawn.
        x_label: label of the horizontal axis.
        y_label: label of the vertical axis.
        lines: lines with intervals.
        references: horizontal lines.
        meanings: what dashes mean, for a legend that names methods elsewhere.
        is_share: whether values are in [0, 1], which the axis then shows.
    """

    name: str
    heading: str
    caption: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    references: tuple[Reference, ...] = ()
    meanings: tuple[tuple[str, Dashes], ...] = ()
    is_share: bool = True


def comparison_charts(comparison: Comparison) -> list[Chart]:
    """Charts that a comparison has: learning curves, ablations, RL actors, imitation actions."""
    curves = [
        (number, method, method_curve(comparison, runs, HYBRID))
        for number, (method, runs) in enumerate(comparison.methods.items())
    ]
    hybrids = [
        Line(method, number, method_style(number), curve)
        for number, method, curve in curves
        if curve
    ]
    references = tuple(_references(comparison))
    charts = [
        _learning_curves(hybrids, references),
        _ablations(comparison, hybrids, references),
        _hybrid_and_rl(comparison, hybrids),
        _imitation_share(comparison),
    ]
    return [chart for chart in charts if chart is not None]


def _learning_curves(hybrids: Sequence[Line], references: Sequence[Reference]) -> Chart:
    return Chart(
        "curves",
        "Learning curves",
        "Success of the hybrid policy; of methods without proposals it is the RL actor. Black: "
        "mean of each imitation policy.",
        FRAMES,
        "success rate",
        tuple(hybrids),
        tuple(references),
        tuple((reference.label, reference.style.dashes) for reference in references),
    )


def _ablations(
    comparison: Comparison, hybrids: Sequence[Line], references: Sequence[Reference]
) -> Chart | None:
    names = [runs[0].method for runs in comparison.methods.values()]
    ablations, others = {*names} & ABLATIONS, {*names} - ABLATIONS
    if not ablations or len(others) < 2:
        return None
    drawn = [line for line in hybrids if names[line.method] in {"ibrl", *ablations}]
    return Chart(
        "ablations",
        "Ablations",
        "IBRL without one or both kinds of proposals, or without dropout (paper, Fig. 6).",
        FRAMES,
        "success rate",
        tuple(drawn),
        tuple(references),
        tuple((reference.label, reference.style.dashes) for reference in references),
    )


def _hybrid_and_rl(comparison: Comparison, hybrids: Sequence[Line]) -> Chart | None:
    """Hybrids and RL actors of methods whose imitation policies propose while acting."""
    acting = {
        number for number, runs in enumerate(comparison.methods.values()) if acting_imitation(runs)
    }
    rl_actors = {
        number: method_curve(comparison, runs, RL)
        for number, runs in enumerate(comparison.methods.values())
        if number in acting
    }
    lines = [
        line
        for hybrid in hybrids
        if hybrid.method in acting
        for line in (
            Line(f"{hybrid.label}: hybrid", hybrid.method, hybrid.style, hybrid.curve),
            _line(hybrid.label, "RL actor", hybrid.method, DASHED, rl_actors[hybrid.method]),
        )
        if line is not None
    ]
    if not lines:
        return None
    return Chart(
        "rl_actor",
        "Hybrid and RL actor",
        "The hybrid and the RL actor of the same runs (paper, Fig. 11).",
        FRAMES,
        "success rate",
        tuple(lines),
        meanings=(("hybrid", SOLID), ("RL actor", DASHED)),
    )


def _imitation_share(comparison: Comparison) -> Chart | None:
    """Shares of the imitation policies that propose while acting."""
    dashes = policy_dashes(comparison.imitation)
    lines = [
        _line(
            method,
            name if len(acting_imitation(runs)) > 1 else None,
            number,
            dashes[name],
            method_curve(comparison, runs, HYBRID, share_of(name)),
        )
        for number, (method, runs) in enumerate(comparison.methods.items())
        for name in acting_imitation(runs)
    ]
    drawn = tuple(line for line in lines if line is not None)
    if not drawn:
        return None
    return Chart(
        "imitation_share",
        "Imitation actions",
        "Share of imitation actions among the hybrid's in evaluations (paper, Fig. 12).",
        FRAMES,
        "share of imitation actions",
        drawn,
        meanings=dash_meanings(dashes),
    )


def acting_imitation(runs: Iterable[Run]) -> list[str]:
    """Names of the imitation policies that propose while the runs' hybrids act."""
    return list(dict.fromkeys(name for run in runs for name in run.acting_proposals if name != RL))


def policy_dashes(imitation: Collection[str]) -> dict[str, Dashes]:
    """Dashes of each imitation policy; a single one has solid lines."""
    if len(imitation) <= 1:
        return dict.fromkeys(imitation, SOLID)
    return {name: imitation_dashes(number) for number, name in enumerate(imitation)}


def dash_meanings(dashes: Mapping[str, Dashes]) -> tuple[tuple[str, Dashes], ...]:
    """Names and dashes of a chart's policies; none where a single one has solid lines."""
    return tuple(dashes.items()) if len(dashes) > 1 else ()


def _line(
    method: str, policy: str | None, number: int, dashes: Dashes, curve: Curve | None
) -> Line | None:
    label = method if policy is None else f"{method}: {policy}"
    return None if curve is None else Line(label, number, method_style(number, dashes), curve)


def _references(comparison: Comparison) -> Iterator[Reference]:
    """Mean final success of each imitation policy."""
    for number, name in enumerate(comparison.imitation):
        scores = [run.success(name) for run in comparison.runs if name in run.final]
        if scores:
            style = LineStyle(REFERENCE, imitation_dashes(number))
            yield Reference(f"{name} (mean of runs)", float(np.mean(scores)), style)
