"""Composed configurations as typed, valid settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf, ValueNode
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from ibrl_torchrl.config.lists import item_type
from ibrl_torchrl.config.renamed import renamed_setting
from ibrl_torchrl.config.setting import require_valid
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.errors import UsageError

ConfigT = TypeVar("ConfigT")


def parse(schema: type[ConfigT], config: DictConfig | Mapping[str, Any]) -> ConfigT:
    """Validate a composed configuration.

    Experiments are written for whole runs; a command with a smaller schema takes its part of one.
    A single item stands for a list of one: ``algo.actor.hidden=256``.

    Args:
        schema: dataclass of settings.
        config: as Hydra composed it, or as a run folder holds it.

    Raises:
        UsageError: a value is missing, of the wrong type or out of range, or a name is unknown.
    """
    try:
        complete = DictConfig(config)
        OmegaConf.resolve(complete)  # a whole group may refer to another one
        part = _part_of(complete, schema, TrainConfig)
        _wrap_items(part, schema)
        merged = cast(DictConfig, OmegaConf.merge(_defaults(schema, part), part))
        require_valid(merged)
        return cast(ConfigT, OmegaConf.to_object(merged))
    except MissingMandatoryValue as error:
        raise UsageError(f"{error.full_key}=... is needed") from error
    except ConfigKeyError as error:
        raise _unknown(str(error.full_key)) from error
    except OmegaConfBaseException as error:
        reason = str(error.msg or error).splitlines()[0]
        raise UsageError(f"{error.full_key or 'configuration'}: {reason}") from error


def _defaults(schema: type, part: DictConfig) -> DictConfig:
    """Defaults of a schema; mappings that ``part`` has replace the default ones entirely."""
    defaults = OmegaConf.structured(schema)
    for name, hint in get_type_hints(schema).items():
        if get_origin(hint) is dict and name in part:
            defaults[name] = {}
    return defaults


def _unknown(name: str) -> UsageError:
    return renamed_setting(name) or UsageError(
        f"{name}: there is no such setting; see the command's --help"
    )


def _part_of(config: DictConfig, schema: type, whole: type) -> DictConfig:
    """Drop what ``whole`` has and ``schema`` lacks; what neither has stays, to be refused."""
    accepted, complete = get_type_hints(schema), get_type_hints(whole)
    names = [*map(str, config)]
    part = OmegaConf.masked_copy(config, [n for n in names if n in accepted or n not in complete])
    for key in map(str, part):
        types = accepted.get(key), complete.get(key)
        if all(map(is_dataclass, types)) and isinstance(part._get_node(key), DictConfig):
            part[key] = _part_of(part[key], cast(type, types[0]), cast(type, types[1]))
    return part


def _wrap_items(config: DictConfig, schema: type) -> None:
    """Replace single items by lists of one where a schema has a list, in place."""
    for name, hint in get_type_hints(schema).items():
        node = config._get_node(name)
        if node is None or node._is_none() or node._is_missing():
            continue
        schemas = [*filter(is_dataclass, (hint, *get_args(hint)))]
        if isinstance(node, DictConfig) and schemas:
            of_items = get_origin(hint) is dict
            for part in node.values() if of_items else [node]:
                if isinstance(part, DictConfig):
                    _wrap_items(part, cast(type, schemas[0]))
        elif isinstance(node, ValueNode) and item_type(hint) is not None:
            config[name] = [node._value()]
