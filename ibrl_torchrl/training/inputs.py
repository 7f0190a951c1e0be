"""Inputs of a run, checked before it prints its plan: without PyTorch, which takes seconds."""

from __future__ import annotations

from pathlib import Path
from zipfile import is_zipfile

from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs.trackers import require_trackers


def require_inputs(config: TrainConfig) -> None:
    """Refuse files that cannot be inputs, and trackers that are not installed.

    What the files hold is checked where they are loaded, see ``pipeline.py``.

    Raises:
        UsageError: names the first of them.
    """
    require_trackers(tensorboard=config.log.tensorboard, wandb=config.log.wandb)
    if config.demos.path is not None:
        from ibrl_torchrl.data.formats import require_demos  # imports h5py, which others do without

        require_demos(Path(config.demos.path))
    for name, policy in config.imitation.items():
        if policy.path is not None:
            _require_checkpoint(f"imitation.{name}.path", Path(policy.path))


def _require_checkpoint(setting: str, path: Path) -> None:
    """Refuse a path that is no file, or a file that is no archive of ``torch.save``."""
    remedy = "name a file such as RUN/imitation/bc.pt, or leave it out to train a policy"
    if not path.is_file():
        raise UsageError(f"{setting}={path}: no such checkpoint; {remedy}")
    with path.open("rb") as file:
        if not is_zipfile(file):
            raise UsageError(f"{setting}={path}: not a checkpoint, or damaged; {remedy}")
