"""``ibrl demos download NAME``: download of robomimic's human demonstrations."""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.config.commands import DemosDownloadConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.data.demos.download import download_dataset


def run(config: DemosDownloadConfig) -> None:
    """Download a dataset to ``out``.

    Raises:
        UsageError: the dataset is unknown, cannot be downloaded, or has another size or checksum
            than published.
    """
    path = download_dataset(config.dataset, Path(config.out))
    echo(f"{path}: complete; use it with: ibrl train task=robosuite/... demos.path={path}")
