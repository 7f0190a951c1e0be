"""``ibrl train``: demonstrations, imitation, RL and evaluation in one run folder."""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.config.plan import plan
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.keys import HYBRID
from ibrl_torchrl.runs.folder import run_job
from ibrl_torchrl.runs.reader import read_run
from ibrl_torchrl.training.inputs import require_inputs
from ibrl_torchrl.training.resume import resumed_settings


def run(config: TrainConfig) -> float:
    """Train and leave a run folder; returns the hybrid's final success, for sweepers.

    ``demos.hdf5``, ``imitation/NAME.pt``, ``checkpoint.pt``, ``best.pt``, ``episodes/``,
    ``train.csv`` (every ``log.every`` frames), ``eval.csv`` (every ``eval.every`` frames),
    ``evaluation.csv`` (the final episodes one by one), ``summary.json``, ``curve.png``,
    ``timing.json``, ``config.yaml``, ``spaces.json`` and ``run.json``.

    Raises:
        UsageError: something that the user can fix.
        KeyboardInterrupt: Ctrl-C; the first one is answered with a checkpoint.
    """
    settings = config if config.resume is None else resumed_settings(config)
    run_job(_run, settings)
    return read_run(Path(settings.run_dir)).success(HYBRID)


def _run(config: TrainConfig) -> None:
    require_inputs(config)
    for line in plan(config):
        echo(line)
    # PyTorch and TorchRL take seconds to import: after the plan.
    from ibrl_torchrl.training.pipeline import run_pipeline

    run_pipeline(config)
