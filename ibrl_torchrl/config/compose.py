"""Composition of settings: defaults of the dataclasses, then the YAML files, then overrides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ibrl_torchrl.config.commands import COMMANDS, Command
from ibrl_torchrl.config.networks import EncoderConfig
from ibrl_torchrl.config.renamed import renamed_setting
from ibrl_torchrl.errors import UsageError, brief, unknown_name

DEFAULT_TASK = "metaworld/box-close"
_HYDRA = {
    "run": {"dir": "."},
    "sweep": {"dir": "runs/sweeps", "subdir": "."},
    "output_subdir": None,
}


def config_directory() -> Path:
    """Folder of the YAML files: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


@cache
def register_configs() -> None:
    """Register the defaults of all commands and of encoders with Hydra.

    Defaults are registered as plain values, not as structured configs: an experiment may then hold
    settings that a command does not take, which :func:`~ibrl_torchrl.config.parse.parse` drops.
    """
    store = ConfigStore.instance()
    for command in COMMANDS.values():
        defaults = [{"schema": command.config_name}, *_groups(command), "_self_"]
        store.store(
            group="schema",
            name=command.config_name,
            node=_plain(command.schema),
            package="_global_",
        )
        store.store(
            name=command.config_name,
            node={"defaults": [*defaults, *_experiments(command), *_SILENT], "hydra": _HYDRA},
        )
    store.store(group="encoder", name="base", node=_plain(EncoderConfig))


_SILENT = [{"override hydra/job_logging": "disabled"}, {"override hydra/hydra_logging": "disabled"}]


def _groups(command: Command) -> list[dict[str, str]]:
    return [{"task": DEFAULT_TASK}] if "task" in command.groups else []


def _experiments(command: Command) -> list[dict[str, str | None]]:
    """Experiment, then method, so that a method applies to every experiment."""
    experiment: list[dict[str, str | None]] = [{"experiment": None}]
    method: list[dict[str, str | None]] = [{"algo": "ibrl"}]
    return [
        *(experiment if "experiment" in command.groups else []),
        *(method if "algo" in command.groups else []),
    ]


def _plain(schema: type[Any]) -> Any:
    """Default values of a settings dataclass, interpolations and missing values as they are."""
    return OmegaConf.to_container(OmegaConf.structured(schema), resolve=False)


def composed(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Configuration of a command, as its command line would compose it.

    Args:
        name: name of its primary configuration, such as ``"train"`` or ``"demos_info"``.
        overrides: settings as on the command line, such as ``"task=metaworld/assembly"``.

    Raises:
        UsageError: a name is unknown or an override cannot be parsed, in one line, where Hydra
            answers with a page.
    """
    register_configs()
    directory = config_directory()
    try:
        with _hydra(directory):
            return compose(name, [*overrides])
    except (HydraException, OmegaConfBaseException) as error:
        message = str(error)
        if match := re.search(r"Could not find '(.+?)'", message):
            path = directory / match.group(1)
            group = str(path.parent.relative_to(directory))
            raise unknown_name(group, path.name, options(group)) from error
        if match := re.search(r"Could not override '(.+?)'", message):
            raise _unknown_setting(match.group(1), name) from error
        raise UsageError(brief(message, 500)) from error
    except ValueError as error:  # a group of settings that is set to null
        empty = next((each for each in overrides if each.endswith(("=null", "="))), None)
        if empty is None:
            raise
        raise UsageError(f"{empty}: {brief(error)}; name one of its options") from error


def options(group: str) -> list[str]:
    """Options of a config group, such as ``"algo"`` or ``"task/metaworld"``, sorted."""
    folder = config_directory() / group
    paths = folder.rglob("*.yaml")
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in paths)
    return sorted(name for name in names if name.split("/")[-1] != "base")


def _unknown_setting(setting: str, config_name: str) -> UsageError:
    return renamed_setting(setting) or unknown_name(
        "setting", setting, setting_names(composed(config_name))
    )


def _hydra(directory: Path) -> AbstractContextManager[object]:
    """Hydra on our files; within a command it is initialised already."""
    if GlobalHydra.instance().is_initialized():
        return nullcontext()
    return initialize_config_dir(str(directory), version_base="1.3")


def setting_names(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Dotted names of all values of a configuration."""
    for key in map(str, config):
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
            yield from setting_names(node, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def quoted(value: str) -> str:
    """A value as an override of Hydra's grammar, whatever characters it has."""
    return "'" + value.replace("'", "\\'") + "'"
