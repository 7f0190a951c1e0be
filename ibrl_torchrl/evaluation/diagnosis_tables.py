"""Tables and summary of a diagnosis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from statistics import mean

from ibrl_torchrl.evaluation.diagnosis import (
    DEMONSTRATED,
    VISITED,
    ScoredEpisode,
    StateRollout,
)
from ibrl_torchrl.files import write_table
from ibrl_torchrl.runs.tables import DIAGNOSIS_ROLLOUT_COLUMNS, diagnosis_step_columns

PARTS = 5  # of an episode, in the summary


def write_scored_steps(
    path: Path, episodes: Sequence[ScoredEpisode], proposals: Sequence[str], gamma: float | None
) -> None:
    """Write the steps of episodes to a CSV file, one row each.

    Args:
        path: file to write; columns as in :func:`diagnosis_step_columns`.
        episodes: scored episodes.
        proposals: names of the proposals, the RL actor's first.
        gamma: discount factor; None leaves the column ``return`` empty.

    Raises:
        UsageError: the folder cannot be written to.
    """
    write_table(path, diagnosis_step_columns(proposals), _step_rows(episodes, proposals, gamma))


def _step_rows(
    episodes: Sequence[ScoredEpisode], proposals: Sequence[str], gamma: float | None
) -> Iterator[list[object]]:
    for episode in episodes:
        length = len(episode.steps)
        for step, return_to_go in zip(episode.steps, _returns(episode, gamma), strict=True):
            yield _format_row(
                (
                    *(episode.seed, step.step, length, int(episode.success), step.proposal),
                    *(step.values[step.proposal], return_to_go),
                    *(step.values[name] for name in proposals),
                    *(step.distances[name] for name in proposals[1:]),
                )
            )


def write_rollouts(path: Path, rollouts: Sequence[StateRollout]) -> None:
    """Write rollouts from states to a CSV file, one row each.

    Args:
        path: file to write; columns are ``DIAGNOSIS_ROLLOUT_COLUMNS``.
        rollouts: results of :func:`rollouts_from_states`.

    Raises:
        UsageError: the folder cannot be written to.
    """
    write_table(path, DIAGNOSIS_ROLLOUT_COLUMNS, (_format_row(astuple(each)) for each in rollouts))


def summary(
    episodes: Sequence[ScoredEpisode],
    rollouts: Sequence[StateRollout],
    proposals: Sequence[str],
    gamma: float | None,
) -> Iterator[str]:
    """Lines on value errors, shares of proposals over an episode, and imitation policies.

    Args:
        episodes: scored episodes.
        rollouts: results of :func:`rollouts_from_states`.
        proposals: names of the proposals, the RL actor's first.
        gamma: discount factor; None leaves out the value errors.
    """
    for success, outcome in ((True, "successful"), (False, "failed")):
        subset = [episode for episode in episodes if episode.success == success]
        errors = [
            step.values[step.proposal] - return_to_go
            for episode in subset
            for step, return_to_go in zip(episode.steps, _returns(episode, gamma), strict=True)
            if return_to_go is not None
        ]
        if errors:
            label = f"value - return in {len(subset)} {outcome} episodes"
            yield f"{label}: {mean(errors):+.3f} on average"
    for name in proposals[1:]:
        shares = (_share(name, episodes, part) for part in range(PARTS))
        line = " ".join("-" if share is None else f"{share:.2f}" for share in shares)
        yield f"share of {name} actions in each fifth of an episode: {line}"
    for name in proposals[1:]:
        for source in (DEMONSTRATED, VISITED):
            group = [r for r in rollouts if (r.policy, r.source) == (name, source)]
            if group:
                yield f"{name} from {source} states: {_describe_rollouts(group)}"


def _share(proposal: str, episodes: Sequence[ScoredEpisode], part: int) -> float | None:
    """Share of a proposal among the actions in one of ``PARTS`` equal parts of the episodes."""
    matches = [
        step.proposal == proposal
        for episode in episodes
        for step in episode.steps
        if step.step * PARTS // len(episode.steps) == part
    ]
    return mean(matches) if matches else None


def _describe_rollouts(rollouts: Sequence[StateRollout]) -> str:
    line = f"success {mean(rollout.success for rollout in rollouts):.2f} of {len(rollouts)}"
    errors = [rollout.error for rollout in rollouts if rollout.error is not None]
    return f"{line}, action error {mean(errors):.2f}" if errors else line


def _returns(episode: ScoredEpisode, gamma: float | None) -> Sequence[float | None]:
    return [None] * len(episode.steps) if gamma is None else episode.returns(gamma)


def _format_row(row: Sequence[object]) -> list[object]:
    """Row with floats at six significant digits; the CSV writer leaves None empty."""
    return [f"{value:.6g}" if isinstance(value, float) else value for value in row]
