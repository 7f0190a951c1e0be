"""Experiment trackers: TorchRL's loggers for TensorBoard and Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ibrl_torchrl.errors import require_extra

if TYPE_CHECKING:
    from torchrl.record.loggers import Logger


def require_trackers(*, tensorboard: bool, wandb: str) -> None:
    """Check that the enabled trackers are installed.

    Args:
        tensorboard: TensorBoard is enabled.
        wandb: ``"disabled"``, ``"online"`` or ``"offline"``.

    Raises:
        UsageError: a package is not installed; the message has the install command.
    """
    if tensorboard:
        require_extra("tensorboard", "tensorboard")
    if wandb != "disabled":
        require_extra("wandb", "wandb")


def make_trackers(
    run_dir: Path, config: Mapping[str, object], *, tensorboard: bool, wandb: str, project: str
) -> list[Logger]:
    """Make the loggers of the enabled trackers.

    Args:
        run_dir: folder of their files; its name is the run's name at Weights & Biases.
        config: configuration to store at Weights & Biases.
        tensorboard: write TensorBoard event files.
        wandb: ``"disabled"``, ``"online"`` or ``"offline"``.
        project: project at Weights & Biases.

    Returns:
        Loggers; the caller closes them.
    """
    from torchrl.record.loggers import get_logger  # takes seconds; the check does without

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
