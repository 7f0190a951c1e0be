"""The settings of a run that is to go on."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.reports.runs import flattened
from ibrl_torchrl.training.compose import composed
from ibrl_torchrl.training.config import TrainConfig, parse
from ibrl_torchrl.training.progress import say
from ibrl_torchrl.training.run_folder import CHECKPOINT, OF_THE_CALL, is_finished, read_config


def settings_of(call: TrainConfig) -> TrainConfig:
    """Those of the run that ``resume`` names; what the call sets beside it must be the same.

    Raises:
        UsageError: the folder is not a run's, or the call sets something else.
    """
    run = str(call.resume)
    began = parse(TrainConfig, read_config(run))
    defaults = dict(flattened(asdict(parse(TrainConfig, composed("train")))))
    has = dict(flattened(asdict(began)))
    for key, value in flattened(asdict(call)):
        is_set = key not in OF_THE_CALL and value != defaults.get(key)
        if is_set and value != has.get(key):
            raise UsageError(
                f"resume={run}: was begun with {key}={has.get(key)}, this call has {value}; a run "
                "keeps its settings"
            )
    if not is_finished(run) and not (Path(run) / CHECKPOINT).exists():
        say(f"{run}: has no checkpoint yet; it begins anew")
    return replace(began, run_dir=run, if_exists="go_on", quiet=call.quiet)
