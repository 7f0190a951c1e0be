"""``ibrl train``: demonstrations, BC, IBRL and evaluation in one run folder."""

from __future__ import annotations

from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.runs.folder import run_job
from ibrl_torchrl.training.pipeline import run_pipeline
from ibrl_torchrl.training.resume import settings_of


def run(config: TrainConfig) -> None:
    """Leave a run folder with everything that was learned and measured.

    ``demos.hdf5``, ``bc.pt``, ``checkpoint.pt``, ``best.pt``, ``episodes/``, ``train.csv`` (every
    ``log.every`` frames), ``eval.csv`` (every ``eval.every`` frames), ``evaluation.csv`` (the final
    episodes, one by one), ``curve.png``, ``timing.json``, beside ``config.yaml`` and ``run.json``.

    Raises:
        UsageError: something the user can mend.
        KeyboardInterrupt: Ctrl-C; the first one is answered with a checkpoint.
    """
    run_job(run_pipeline, config if config.resume is None else settings_of(config))
