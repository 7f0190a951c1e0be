"""What a training run writes down while it goes."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict
from typing import Any, NamedTuple

from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.evaluation.evaluate import Evaluation, EvaluationJob
from ibrl_torchrl.evaluation.table import format_table, write_evaluation
from ibrl_torchrl.files import write_json
from ibrl_torchrl.rollouts.episode import Rollouts
from ibrl_torchrl.runs.folder import BEST, EVALUATION
from ibrl_torchrl.runs.tables import CsvTable
from ibrl_torchrl.runs.trackers import make_trackers
from ibrl_torchrl.training.plot import plot_runs
from ibrl_torchrl.training.state import LoggerState, TrainingState

TRAIN_COLUMNS = [
    *("frames", "episodes", "rounds", "wall_s", "episode_success", "episode_frames", "il_share"),
    *("loss_qvalue", "loss_actor", "q_mean", "target_mean", "actor_value", "bootstrap_il_share"),
    *("bc_loss", "bc_share"),
]
EVAL_COLUMNS = [
    *("frames", "wall_s", "policy", "episodes", "success", "success_low", "success_high"),
    *("success_length", "il_share"),
]


class _PendingEvaluation(NamedTuple):
    """An evaluation on its way, of which frame, of which networks."""

    evaluation: EvaluationJob
    frames: int
    networks: dict[str, Any]


class RunLogger:
    """Keeps a run's records: progress bar, tables, trackers, evaluations, checkpoints.

    Args:
        config: of the run.
        state: what checkpoints are made of.
        rollouts: plays evaluations; with workers, while the run goes on.
        records: to go on with.
    """

    def __init__(
        self,
        config: TrainConfig,
        state: TrainingState,
        rollouts: Rollouts,
        records: LoggerState,
    ) -> None:
        self._config = config
        self._state = state
        self._progress = state.progress
        self._run_dir = state.run_dir
        self._rollouts = rollouts
        self._records = records
        self._started = time.perf_counter() - self._records.wall
        self._frames_before = state.progress.frames
        self._running: _PendingEvaluation | None = None
        self._train = CsvTable(
            self._run_dir / "train.csv", TRAIN_COLUMNS, size=self._records.train_size
        )
        self._eval = CsvTable(
            self._run_dir / "eval.csv", EVAL_COLUMNS, size=self._records.eval_size
        )
        self._trackers = make_trackers(
            self._run_dir,
            asdict(config),
            tensorboard=config.log.tensorboard,
            wandb=config.log.wandb,
            project=config.log.project,
        )
        self._bar = progress_bar(
            total=config.frames,
            initial=self._frames_before,
            desc=config.task.name,
            unit="frame",
        )

    def after_episode(self, report: dict[str, float]) -> None:
        """Record an episode and do what has come due."""
        self._bar.update(min(self._progress.frames, self._config.frames) - self._bar.n)
        if self._is_due(self._config.log.every):
            self._write_train(report)
        if self._running is not None and self._running.evaluation.is_done():
            self._write_evaluation()
        if self._is_due(self._config.eval.every):
            self._begin_evaluation(("hybrid", "rl"), self._config.eval.episodes)
        if self._is_due(self._config.checkpoint_every):
            self.checkpoint()
        self._frames_before = self._progress.frames

    def evaluate(self, names: tuple[str, ...], episodes: int) -> dict[str, Evaluation]:
        """Evaluate policies, wait for that, and record the figures."""
        self._begin_evaluation(names, episodes)
        return self._write_evaluation()

    def checkpoint(self) -> None:
        """Write everything down that the run needs to go on from here."""
        if self._running is not None:
            self._write_evaluation()
        started = time.perf_counter()
        self._records.train_size = self._train.sync()
        self._records.eval_size = self._eval.sync()
        self._records.wall = self._wall
        self._state.save(self._records)
        self._records.saving += time.perf_counter() - started

    def finish(self) -> None:
        """Final checkpoint, evaluation from the same start states, picture and timing."""
        self.checkpoint()
        results = self.evaluate(("hybrid", "rl", "bc"), self._config.eval.final_episodes)
        records = self._records
        timing = self._progress.seconds | {
            "evaluate": records.evaluating,
            "checkpoint": records.saving,
            "wall": self._wall,
        }
        write_json(self._run_dir / "timing.json", timing)
        plot_runs([self._run_dir], self._run_dir / "curve.png")
        write_evaluation(self._run_dir / EVALUATION, self._progress.frames, results)
        self._state.tidy()
        echo(format_table(results))
        echo(f"{self._wall / 60:.1f} minutes; results in {self._run_dir}")

    def close(self) -> None:
        """Close bar, tables and trackers."""
        self._bar.close()
        self._train.close()
        self._eval.close()
        for tracker in self._trackers:
            close = getattr(tracker.experiment, "finish", None) or tracker.experiment.close
            close()

    @property
    def _wall(self) -> float:
        return time.perf_counter() - self._started

    def _is_due(self, every: int) -> bool:
        """Whether the last episode has passed a multiple of so many frames."""
        return self._progress.frames // every > self._frames_before // every

    def _begin_evaluation(self, names: tuple[str, ...], episodes: int) -> None:
        if self._running is not None:
            self._write_evaluation()
        started = time.perf_counter()
        first = self._config.eval.seed
        self._running = _PendingEvaluation(
            EvaluationJob(self._rollouts, names, range(first, first + episodes)),
            self._progress.frames,
            copy.deepcopy(self._state.learner.loss.state_dict()),
        )
        self._records.evaluating += time.perf_counter() - started

    def _write_evaluation(self) -> dict[str, Evaluation]:
        """Wait for the evaluation that is running and record its figures."""
        started = time.perf_counter()
        running, self._running = self._running, None
        results = running.evaluation.results()
        self._records.evaluating += time.perf_counter() - started
        for name, result in results.items():
            row = result.row()
            self._eval.write(
                {"frames": running.frames, "wall_s": self._wall, "policy": name, **row}
            )
            self._track(f"eval/{name}", row, running.frames)
            echo(
                f"frame {running.frames:>7}  {name:6}  success {result.success_rate:.2f} "
                f"of {len(result.episodes)}  IL share {result.il_share:.2f}"
            )
        if "hybrid" in results and results["hybrid"].success_rate > self._records.best:
            self._records.best = results["hybrid"].success_rate
            self._state.save_networks(BEST, running.frames, running.networks)
        return results

    def _write_train(self, report: dict[str, float]) -> None:
        progress = self._progress
        row = {
            "frames": progress.frames,
            "episodes": progress.episodes,
            "rounds": progress.rounds,
            "wall_s": self._wall,
            **report,
        }
        self._train.write(row)
        self._track("train", report, progress.frames)
        self._bar.set_postfix(
            success=f"{progress.recent_success:.2f}",
            q=f"{report.get('q_mean', 0.0):.2f}",
            il=f"{report['il_share']:.2f}",
        )

    def _track(self, prefix: str, row: dict[str, float], frames: int) -> None:
        for tracker in self._trackers:
            for key, value in row.items():
                tracker.log_scalar(f"{prefix}/{key}", value, step=frames)
