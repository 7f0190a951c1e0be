"""``ibrl diagnose RUN``: are the critics right, who proposes when, does BC generalise?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from statistics import mean

from ibrl_torchrl.config.commands import DiagnoseConfig
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.data.demos.describe import describe_demos
from ibrl_torchrl.data.demos.trajectories import read_trajectories
from ibrl_torchrl.evaluation.diagnosis import (
    Demonstrations,
    ScoredEpisode,
    StateRollout,
    rollouts_from_states,
    score_episodes,
)
from ibrl_torchrl.evaluation.load import load_run
from ibrl_torchrl.experts import scripted_expert
from ibrl_torchrl.files import write_table
from ibrl_torchrl.reports.diagnosis_tables import MOMENTS_FILE, RESTARTS_FILE

MOMENTS = ("seed", "step", "length", "success", "proposal", "value", "return")
MOMENTS += ("rl_value", "il_value", "il_distance")


def run(config: DiagnoseConfig) -> None:
    """Write ``diagnosis_moments.csv`` and ``diagnosis_restarts.csv`` into the run folder and say
    what they mean.

    Raises:
        UsageError: the folder is not a run's, or its demonstrations are not there any more.
    """
    run_dir = Path(config.run)
    restored = load_run(run_dir, seed=config.seed, threads=config.threads, device=config.device)
    trained, env, agent = restored.config, restored.env, restored.agent
    demos = _demonstrations(run_dir, trained)
    seeds = range(config.seed, config.seed + config.episodes)
    shown = progress_bar(
        score_episodes(env, agent.scored, seeds), desc="play", total=config.episodes, unit="episode"
    )
    played = [*shown]
    returns = [_returns(episode, trained) for episode in played]
    moments = [row for each in zip(played, returns, strict=True) for row in _rows(*each)]
    write_table(run_dir / MOMENTS_FILE, MOMENTS, map(_written, moments))
    task = trained.task
    # Meta-World's experts keep no memory and can be asked anywhere; robosuite's follow a plan.
    expert = scripted_expert(task.suite, task.name) if task.suite == "metaworld" else None
    again = rollouts_from_states(env, agent.policies["bc"], expert, demos, played, config.starts)
    found = [*progress_bar(again, desc="restart", total=2 * config.starts, unit="start")]
    names = [field.name for field in fields(StateRollout)]
    write_table(run_dir / RESTARTS_FILE, names, (_written(astuple(each)) for each in found))
    _say_what_it_means(played, returns, found)
    echo(f"tables: {run_dir / MOMENTS_FILE}, {RESTARTS_FILE}")


def _demonstrations(run_dir: Path, config: TrainConfig) -> Demonstrations:
    path = Path(config.demos.path or run_dir / "demos.hdf5")
    episodes = read_trajectories(
        path, filter_key=config.demos.filter_key, max_episodes=config.demos.episodes
    )
    return Demonstrations([*episodes], describe_demos(path, config.demos.filter_key).env_args)


def _returns(episode: ScoredEpisode, config: TrainConfig) -> Sequence[float | None]:
    """What came of each moment; not known where critics learn of other rewards (SQIL)."""
    if config.replay.demo_reward is not None or config.replay.online_reward is not None:
        return [None] * len(episode.moments)
    return episode.returns(config.algo.gamma)


def _rows(episode: ScoredEpisode, returns: Sequence[float | None]) -> Iterable[tuple[object, ...]]:
    for moment, earned in zip(episode.moments, returns, strict=True):
        yield (
            episode.seed,
            moment.step,
            len(episode.moments),
            int(episode.success),
            moment.proposal,
            moment.values[moment.proposal],
            earned,
            *moment.values,
            moment.distance,
        )


def _say_what_it_means(
    played: Sequence[ScoredEpisode],
    returns: Sequence[Sequence[float | None]],
    found: Sequence[StateRollout],
) -> None:
    for success, told in ((True, "solved"), (False, "failed")):
        gaps = [
            moment.values[moment.proposal] - earned
            for episode, earnings in zip(played, returns, strict=True)
            if episode.success == success
            for moment, earned in zip(episode.moments, earnings, strict=True)
            if earned is not None
        ]
        count = sum(episode.success == success for episode in played)
        if gaps:
            echo(f"value - return in {count} {told} episodes: {mean(gaps):+.3f} on average")
    shares = []
    for part in range(5):
        inside = [
            moment.proposal > 0
            for episode in played
            for moment in episode.moments
            if moment.step * 5 // len(episode.moments) == part
        ]
        shares.append(mean(inside))
    told = " ".join(f"{share:.2f}" for share in shares)
    echo(f"share of imitation actions in each fifth of an episode: {told}")
    for source in ("demonstrated", "visited"):
        these = [each for each in found if each.source == source]
        line = f"BC policy from {source} states: success {mean(e.success for e in these):.2f}"
        errors = [each.error for each in these if each.error is not None]
        if errors:
            line += f", its action {mean(errors):.2f} from the expert's"
        echo(f"{line}, of {len(these)}")


def _written(row: Sequence[object]) -> list[object]:
    """A row as the files have it: numbers with six digits, nothing for what is not known."""
    return [f"{value:.6g}" if isinstance(value, float) else value for value in row]
