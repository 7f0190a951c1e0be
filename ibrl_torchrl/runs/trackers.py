"""Where numbers go: a CSV file always, TensorBoard and Weights & Biases on request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torchrl.record.loggers.common import Logger

from ibrl_torchrl.errors import require_extra


def require_trackers(*, tensorboard: bool, wandb: str) -> None:
    """Refuse trackers that are not installed, before a run has begun.

    Raises:
        UsageError: with the install line.
    """
    if tensorboard:
        require_extra("tensorboard", "tensorboard")
    if wandb != "disabled":
        require_extra("wandb", "wandb")


def make_trackers(
    run_dir: Path, config: Mapping[str, object], *, tensorboard: bool, wandb: str, project: str
) -> list[Logger]:
    """TorchRL loggers for the trackers that were asked for.

    Args:
        run_dir: where they keep their files; its name names the run.
        config: the run's settings, kept with the run at Weights & Biases.
        tensorboard: write TensorBoard event files.
        wandb: ``"disabled"``, ``"online"`` or ``"offline"``.
        project: Weights & Biases project.
    """
    loggers: list[Logger] = []
    if tensorboard:
        from torchrl.record.loggers.tensorboard import TensorboardLogger

        loggers.append(TensorboardLogger("tensorboard", log_dir=str(run_dir)))
    if wandb != "disabled":
        from torchrl.record.loggers.wandb import WandbLogger

        loggers.append(
            WandbLogger(
                run_dir.name,
                offline=wandb == "offline",
                save_dir=str(run_dir),
                project=project,
                config=dict(config),
            )
        )
    return loggers
