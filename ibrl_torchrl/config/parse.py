"""Composed configurations to typed settings."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any, TypeVar, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.errors import UsageError

ConfigT = TypeVar("ConfigT")


def parse(schema: type[ConfigT], config: DictConfig | dict[str, Any]) -> ConfigT:
    """Check a composed configuration and make it typed objects.

    Experiments are written for whole runs; a command with a smaller schema takes its part of one.

    Raises:
        UsageError: a value is missing, of the wrong type or out of range, or a key is unknown.
    """
    try:
        config = _part_of(OmegaConf.create(config), schema, TrainConfig)
        merged = OmegaConf.merge(OmegaConf.structured(schema), config)
        return OmegaConf.to_object(merged)
    except MissingMandatoryValue as error:
        raise UsageError(f"{error.full_key}=... is needed") from error
    except OmegaConfBaseException as error:
        reason = str(error.msg or error).splitlines()[0]
        raise UsageError(f"{error.full_key or 'configuration'}: {reason}") from error


def _part_of(config: DictConfig, schema: type, whole: type) -> DictConfig:
    """Leave out what ``whole`` has and ``schema`` lacks; what neither has stays, to be refused."""
    own, all_of_it = get_type_hints(schema), get_type_hints(whole)
    part = OmegaConf.masked_copy(
        config, [key for key in config if key in own or key not in all_of_it]
    )
    for key in part:
        kinds = own.get(key), all_of_it.get(key)
        if all(map(is_dataclass, kinds)) and isinstance(part._get_node(key), DictConfig):
            part[key] = _part_of(part[key], *kinds)
    return part
