"""``ibrl demos download NAME``: human demonstrations of robomimic."""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.config.commands import DemosDownloadConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.data.demos.download import download_dataset


def run(config: DemosDownloadConfig) -> None:
    """Fetch a dataset to ``out``.

    Raises:
        UsageError: the dataset is unknown, cannot be had, or is not what it should be.
    """
    path = download_dataset(config.dataset, Path(config.out))
    echo(f"{path}: complete; use it with: ibrl train task=robosuite/... demos.path={path}")
