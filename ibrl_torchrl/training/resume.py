"""Settings of a run that is resumed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace

from hydra.core.hydra_config import HydraConfig

from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs.folder import CALL_SETTINGS, has_checkpoint, is_finished, read_config
from ibrl_torchrl.runs.tables import flatten_settings


def resumed_settings(call: TrainConfig) -> TrainConfig:
    """Settings of the run that ``resume`` names; those that the call sets too must be equal.

    Raises:
        UsageError: the folder is not a run's, or the call sets another value.
    """
    run = str(call.resume)
    original = parse(TrainConfig, read_config(run))
    defaults = dict(flatten_settings(asdict(parse(TrainConfig, composed("train")))))
    values = dict(flatten_settings(asdict(original)))
    overridden = tuple(_overridden())
    for key, value in flatten_settings(asdict(call)):
        if key in CALL_SETTINGS or value == values.get(key):
            continue
        if value != defaults.get(key) or f"{key}.".startswith(overridden):
            raise UsageError(
                f"resume={run}: was started with {key}={values.get(key)}, this call has {value}; a "
                "run keeps its settings"
            )
    if not is_finished(run) and not has_checkpoint(run):
        echo(f"{run}: has no checkpoint yet; it starts again")
    return replace(original, run_dir=run, if_exists="resume", quiet=call.quiet)


def _overridden() -> Iterator[str]:
    """Settings and groups on the command line, such as ``"seed."`` and ``"task."``."""
    if HydraConfig.initialized():
        for override in HydraConfig.get().overrides.task:
            yield override.lstrip("+~").split("=")[0] + "."
