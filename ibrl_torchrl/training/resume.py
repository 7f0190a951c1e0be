"""The settings of a run that is to go on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs.folder import CHECKPOINT, OF_THE_CALL, is_finished, read_config
from ibrl_torchrl.runs.tables import flatten_settings


def settings_of(call: TrainConfig) -> TrainConfig:
    """Those of the run that ``resume`` names; what the call sets beside it must be the same.

    Raises:
        UsageError: the folder is not a run's, or the call sets something else.
    """
    run = str(call.resume)
    began = parse(TrainConfig, read_config(run))
    defaults = dict(flatten_settings(asdict(parse(TrainConfig, composed("train")))))
    has = dict(flatten_settings(asdict(began)))
    named = tuple(_named())
    for key, value in flatten_settings(asdict(call)):
        if key in OF_THE_CALL or value == has.get(key):
            continue
        if value != defaults.get(key) or f"{key}.".startswith(named):
            raise UsageError(
                f"resume={run}: was begun with {key}={has.get(key)}, this call has {value}; a run "
                "keeps its settings"
            )
    if not is_finished(run) and not (Path(run) / CHECKPOINT).exists():
        echo(f"{run}: has no checkpoint yet; it begins anew")
    return replace(began, run_dir=run, if_exists="go_on", quiet=call.quiet)


def _named() -> Iterator[str]:
    """Settings and groups that the command line names, such as ``"seed."`` and ``"task."``."""
    if HydraConfig.initialized():
        for override in HydraConfig.get().overrides.task:
            yield override.lstrip("+~").split("=")[0] + "."
