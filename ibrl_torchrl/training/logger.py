"""Logger of a run: progress bar, tables, trackers, evaluations and checkpoints."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.evaluation.evaluate import Evaluation, EvaluationJob
from ibrl_torchrl.evaluation.table import format_table, write_evaluation
from ibrl_torchrl.files import write_json
from ibrl_torchrl.keys import HYBRID, RL
from ibrl_torchrl.rollouts.episode import Rollouts
from ibrl_torchrl.runs.names import BEST, CURVE, EVAL, EVALUATION, SUMMARY, TIMING, TRAIN
from ibrl_torchrl.runs.reader import read_run
from ibrl_torchrl.runs.tables import (
    INTERVENTION_SHARE,
    CsvTable,
    eval_columns,
    share_column,
    train_columns,
)
from ibrl_torchrl.runs.trackers import make_trackers
from ibrl_torchrl.training.forecast import Forecast
from ibrl_torchrl.training.state import LoggerState, TrainingState
from ibrl_torchrl.training.summary import run_summary


class _PendingEvaluation(NamedTuple):
    """Evaluation in progress, with the networks that it evaluates and their frame."""

    job: EvaluationJob
    frames: int
    networks: dict[str, Any]


class RunLogger:
    """Progress bar, tables, trackers, evaluations and checkpoints of a run.

    Args:
        config: settings of the run.
        state: contents of checkpoints.
        rollouts: backend of the evaluations; workers run them while training continues.
        logger_state: state to resume from.
        proposals: names of the proposals, in the order of the index ``proposal``.
        target_proposals: names of the TD target's proposals.
        metrics: names of the loss's metrics.
        interventions: somebody else may act in training episodes. Default False.
    """

    def __init__(
        self,
        config: TrainConfig,
        state: TrainingState,
        rollouts: Rollouts,
        logger_state: LoggerState,
        *,
        proposals: Sequence[str],
        target_proposals: Sequence[str],
        metrics: Sequence[str],
        interventions: bool = False,
    ) -> None:
        self._config = config
        self._state = state
        self._counters = state.counters
        self._run_dir = state.run_dir
        self._rollouts = rollouts
        self._logger_state = logger_state
        self._proposals = proposals
        self._start = time.perf_counter() - logger_state.wall
        self._previous_frames = state.counters.frames
        self._forecast = Forecast(config.total_frames)
        self._pending: _PendingEvaluation | None = None
        self._train = CsvTable(
            self._run_dir / TRAIN,
            train_columns(proposals, target_proposals, metrics, interventions=interventions),
            size=logger_state.train_size,
        )
        self._eval = CsvTable(
            self._run_dir / EVAL, eval_columns(proposals), size=logger_state.eval_size
        )
        self._trackers = make_trackers(
            self._run_dir,
            asdict(config),
            tensorboard=config.log.tensorboard,
            wandb=config.log.wandb,
            project=config.log.project,
        )
        self._bar = progress_bar(
            total=config.total_frames,
            initial=self._previous_frames,
            desc=config.task.name,
            unit="frame",
        )

    def after_episode(self, metrics: Mapping[str, float]) -> None:
        """Log an episode, and evaluate and save a checkpoint where their intervals have passed."""
        self._bar.update(min(self._counters.frames, self._config.total_frames) - self._bar.n)
        if self._is_due(self._config.log.every):
            self._log_training(metrics)
        self._log_forecast()
        if self._pending is not None and self._pending.job.is_done():
            self._log_evaluation(self._pending)
        is_last = self._counters.frames >= self._config.total_frames  # `finish` evaluates
        if self._is_due(self._config.eval.every) and not is_last:
            self._submit_evaluation((HYBRID, RL), self._config.eval.episodes)
        if self._is_due(self._config.checkpoint_every):
            self.checkpoint()
        self._previous_frames = self._counters.frames

    def evaluate_imitation(self) -> dict[str, Evaluation]:
        """Evaluate the imitation policies before training and log them.

        The final evaluation, of these and of two more policies, will take as long for each.
        """
        names, episodes = [*self._config.imitation], self._config.eval.final_episodes
        results = self._log_evaluation(self._submit_evaluation(names, episodes))
        seconds = self._logger_state.evaluating / max(1, len(names)) * (len(names) + 2)
        self._forecast = Forecast(self._config.total_frames, final=seconds)
        return results

    def checkpoint(self) -> None:
        """Save everything that the run needs to resume from here."""
        if self._pending is not None:
            self._log_evaluation(self._pending)
        start = time.perf_counter()
        self._logger_state.train_size = self._train.sync()
        self._logger_state.eval_size = self._eval.sync()
        self._logger_state.wall = self._wall
        self._state.save(self._logger_state)
        self._logger_state.saving += time.perf_counter() - start

    def finish(self) -> None:
        """Save the final checkpoint, evaluate all policies, write results, print them last."""
        self.checkpoint()
        policies = (HYBRID, RL, *self._config.imitation)
        pending = self._submit_evaluation(policies, self._config.eval.final_episodes)
        results = self._log_evaluation(pending, is_printed=False)
        timing = self._counters.seconds | {
            "evaluate": self._logger_state.evaluating,
            "checkpoint": self._logger_state.saving,
            "wall": self._wall,
        }
        write_json(self._run_dir / TIMING, timing)
        run = read_run(self._run_dir)
        # Half a second of imports, which only the end of a run needs.
        from ibrl_torchrl.reports.figures import run_figure, save_png

        save_png(run_figure(run), self._run_dir / CURVE)
        write_json(
            self._run_dir / SUMMARY, run_summary(run, results, self._counters, seconds=self._wall)
        )
        write_evaluation(
            self._run_dir / EVALUATION, {self._counters.frames: results}, self._proposals
        )
        self._state.remove_temporary(keep_episodes=self._config.log.keep_episodes)
        self.close()  # first: Weights & Biases prints a page when it is closed
        echo(format_table(results))
        if self._counters.rounds == 0:
            echo(
                f"warning: the warm-up took all {self._counters.frames} frames; no update was "
                "made, hybrid and rl are untrained"
            )
        echo(f"{self._wall / 60:.1f} minutes; results in {self._run_dir}")

    def close(self) -> None:
        """Close bar, tables and trackers; closing them again does nothing."""
        self._bar.close()
        self._train.close()
        self._eval.close()
        for tracker in self._trackers:
            tracker.close()

    @property
    def _wall(self) -> float:
        return time.perf_counter() - self._start

    def _is_due(self, every: int) -> bool:
        """Whether the last episode has passed a multiple of ``every`` frames."""
        return self._counters.frames // every > self._previous_frames // every

    def _submit_evaluation(self, policies: Sequence[str], episodes: int) -> _PendingEvaluation:
        if self._pending is not None:
            self._log_evaluation(self._pending)
        start = time.perf_counter()
        first = self._config.eval.seed
        seeds = range(first, first + episodes)
        self._pending = _PendingEvaluation(
            EvaluationJob(self._rollouts, policies, seeds, self._proposals),
            self._counters.frames,
            copy.deepcopy(self._state.networks()),
        )
        self._logger_state.evaluating += time.perf_counter() - start
        return self._pending

    def _log_evaluation(
        self, pending: _PendingEvaluation, *, is_printed: bool = True
    ) -> dict[str, Evaluation]:
        """Wait for an evaluation and log it; the networks of the best one are saved."""
        start = time.perf_counter()
        self._pending = None
        results = pending.job.results()
        self._logger_state.evaluating += time.perf_counter() - start
        for name, result in results.items():
            row = {"wall_s": self._wall, **result.row()}
            self._eval.write({"frames": pending.frames, "policy": name, **row})
            self._track(f"eval/{name}", row, pending.frames)
            if is_printed:
                echo(f"frame {pending.frames:>7}  {name:6}  {_summary(result)}")
        if HYBRID in results and results[HYBRID].success_rate > self._logger_state.best:
            self._logger_state.best = results[HYBRID].success_rate
            self._state.save_networks(BEST, pending.frames, pending.networks)
        return results

    def _log_training(self, metrics: Mapping[str, float]) -> None:
        counters = self._counters
        row = {
            "episodes": counters.episodes,
            "rounds": counters.rounds,
            "wall_s": self._wall,
            **metrics,
        }
        self._train.write({"frames": counters.frames, **row})
        self._track("train", row, counters.frames)
        others = (share_column("acting", RL), INTERVENTION_SHARE)
        imitation = 1 - sum(metrics.get(column, 0.0) for column in others)
        self._bar.set_postfix(
            success=f"{counters.recent_success:.2f}",
            q=f"{metrics.get('pred_value', metrics.get('next_value', 0.0)):.2f}",
            imitation=f"{imitation:.2f}",
        )

    def _log_forecast(self) -> None:
        counters = self._counters
        expected = self._forecast.update(
            frames=counters.frames, rounds=counters.rounds, wall=self._wall
        )
        if expected is not None:
            left = expected - self._wall
            echo(f"expected: {expected / 60:.0f} minutes in all, {left / 60:.0f} from now")

    def _track(self, prefix: str, row: Mapping[str, float], frames: int) -> None:
        """Send a row to the trackers, by the names of the table's columns behind a prefix."""
        for tracker in self._trackers:
            for key, value in row.items():
                tracker.log_scalar(f"{prefix}/{key}", value, step=frames)


def _summary(result: Evaluation) -> str:
    shares = "  ".join(
        f"{name} {share:.2f}" for name, share in result.proposal_shares.items() if name != RL
    )
    return f"success {result.success_rate:.2f} of {len(result.episodes)}  share of {shares}"
