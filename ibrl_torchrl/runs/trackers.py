"""Trackers: TensorBoard and Weights & Biases, by TorchRL's loggers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torchrl.record.loggers import Logger, get_logger

from ibrl_torchrl.errors import require_extra


def require_trackers(*, tensorboard: bool, wandb: str) -> None:
    """Refuse trackers that are not installed.

    Raises:
        UsageError: a package is missing; the message has its install command.
    """
    if tensorboard:
        require_extra("tensorboard", "tensorboard")
    if wandb != "disabled":
        require_extra("wandb", "wandb")


def make_trackers(
    run_dir: Path, config: Mapping[str, object], *, tensorboard: bool, wandb: str, project: str
) -> list[Logger]:
    """Create TorchRL's loggers of the enabled trackers.

    Args:
        run_dir: folder of their files; its name is that of the run.
        config: settings, stored with the run at Weights & Biases.
        tensorboard: write TensorBoard event files.
        wandb: ``"disabled"``, ``"online"`` or ``"offline"``.
        project: project at Weights & Biases.
    """
    names: list[tuple[Literal["tensorboard", "wandb"], str]] = []
    if tensorboard:
        names.append(("tensorboard", "tensorboard"))
    if wandb != "disabled":
        names.append(("wandb", run_dir.name))
    settings: dict[str, Any] = {
        "offline": wandb == "offline",
        "project": project,
        "config": dict(config),
    }
    loggers = (
        get_logger(kind, str(run_dir), experiment, wandb_kwargs=settings)
        for kind, experiment in names
    )
    return [logger for logger in loggers if logger is not None]


def close_tracker(tracker: Logger) -> None:
    """Flush and close a tracker."""
    close = getattr(tracker.experiment, "finish", None) or tracker.experiment.close
    close()
