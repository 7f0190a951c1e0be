"""What a training run writes down while it goes."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from torchrl.envs import EnvBase

from ibrl_torchrl.training.builders import Agent
from ibrl_torchrl.training.checkpoint import save_checkpoint
from ibrl_torchrl.training.config import TrainConfig
from ibrl_torchrl.training.evaluate import Evaluation
from ibrl_torchrl.training.loop import Progress
from ibrl_torchrl.training.metrics import CsvTable, tracking_loggers
from ibrl_torchrl.training.plot import plot_runs
from ibrl_torchrl.training.progress import bar, say
from ibrl_torchrl.training.report import evaluate_policies, format_table, write_evaluation
from ibrl_torchrl.training.run_folder import CHECKPOINT, EVALUATION, write_json

TRAIN_COLUMNS = [
    *("frames", "episodes", "rounds", "wall_s", "episode_success", "episode_frames", "il_share"),
    *("loss_qvalue", "loss_actor", "q_mean", "target_mean", "actor_value", "bootstrap_il_share"),
    *("bc_loss", "bc_share"),
]
EVAL_COLUMNS = [
    *("frames", "wall_s", "policy", "episodes", "success", "success_low", "success_high"),
    *("success_length", "il_share"),
]


class Recorder:
    """Keeps a run's records: progress bar, tables, trackers, evaluations, checkpoints."""

    def __init__(self, config: TrainConfig, run_dir: Path, agent: Agent, env: EnvBase) -> None:
        self._config = config
        self._run_dir = run_dir
        self._agent = agent
        self._env = env
        self._progress = Progress()
        self._started = time.perf_counter()
        self._evaluating = 0.0
        self._train = CsvTable(run_dir / "train.csv", TRAIN_COLUMNS)
        self._eval = CsvTable(run_dir / "eval.csv", EVAL_COLUMNS)
        self._trackers = tracking_loggers(
            run_dir,
            asdict(config),
            tensorboard=config.log.tensorboard,
            wandb=config.log.wandb,
            project=config.log.project,
        )
        self._bar = bar(total=config.frames, desc=config.task.name, unit="frame")
        self._due = {
            "log": config.log.every,
            "eval": config.eval.every,
            "checkpoint": config.checkpoint_every,
        }

    def after_episode(self, progress: Progress, report: dict[str, float]) -> None:
        """Record an episode and do what has come due."""
        self._progress = progress
        self._bar.update(min(progress.frames, self._config.frames) - self._bar.n)
        if self._is_due("log", self._config.log.every):
            self._write_train(report)
        if self._is_due("eval", self._config.eval.every):
            self.evaluate(progress, ("hybrid", "rl"), self._config.eval.episodes)
        if self._is_due("checkpoint", self._config.checkpoint_every):
            self.checkpoint()

    def evaluate(
        self, progress: Progress, names: tuple[str, ...], episodes: int
    ) -> dict[str, Evaluation]:
        """Evaluate policies and record the figures."""
        started = time.perf_counter()
        policies = {name: self._agent.policies[name] for name in names}
        results = evaluate_policies(self._env, policies, self._config.eval.seed, episodes)
        self._evaluating += time.perf_counter() - started
        for name, result in results.items():
            row = result.row()
            self._eval.write(
                {"frames": progress.frames, "wall_s": self._wall, "policy": name, **row}
            )
            self._track(f"eval/{name}", row, progress.frames)
            say(
                f"frame {progress.frames:>7}  {name:6}  success {result.success_rate:.2f} "
                f"of {episodes}  IL share {result.il_share:.2f}"
            )
        return results

    def checkpoint(self) -> None:
        """Write networks, targets and optimisers."""
        task = self._config.task
        meta = {"task": f"{task.suite}/{task.name}", "frames": self._progress.frames}
        state = self._agent.learner.state_dict()
        save_checkpoint(self._run_dir / CHECKPOINT, "ibrl", meta, state)

    def finish(self, progress: Progress) -> None:
        """Final checkpoint, evaluation from the same start states, picture and timing."""
        self.checkpoint()
        config = self._config.eval
        results = self.evaluate(progress, ("hybrid", "rl", "bc"), config.final_episodes)
        write_evaluation(self._run_dir / EVALUATION, progress.frames, results)
        timing = progress.seconds | {"evaluate": self._evaluating, "wall": self._wall}
        write_json(self._run_dir / "timing.json", timing)
        plot_runs([self._run_dir], self._run_dir / "curve.png")
        say(format_table(results))
        say(f"{self._wall / 60:.1f} minutes; results in {self._run_dir}")

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

    def _is_due(self, name: str, every: int) -> bool:
        frames = self._progress.frames
        if frames < self._due[name]:
            return False
        self._due[name] = (frames // every + 1) * every
        return True

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
