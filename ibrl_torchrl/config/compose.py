"""The shipped YAML files, composed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import ibrl_torchrl
from ibrl_torchrl.errors import UsageError, unknown_name


def config_directory() -> Path:
    """The YAML files: inside the installed package, or beside it in a checkout."""
    package = Path(ibrl_torchrl.__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def composed(file: str, overrides: Sequence[str] = ()) -> DictConfig:
    """A command's configuration, as its command line would compose it.

    Args:
        file: name of a file in the directory, such as ``"train"``.
        overrides: settings as on the command line, such as ``"task=metaworld/assembly"``.

    Raises:
        UsageError: a name is unknown or an override cannot be read, in one line, where Hydra would
            answer with a page.
    """
    register_resolvers()
    directory = config_directory()
    try:
        with _hydra(directory):
            return compose(file, [*overrides])
    except (HydraException, OmegaConfBaseException) as error:
        message = str(error)
        if found := re.search(r"Could not find '(.+?)'", message):
            path = directory / found.group(1)
            group = str(path.parent.relative_to(directory))
            options = {option.stem for option in path.parent.glob("*.yaml")} - {"base"}
            raise unknown_name(group, path.name, options) from error
        if found := re.search(r"Could not override '(.+?)'", message):
            raise unknown_name("setting", found.group(1), _names(composed(file))) from error
        raise UsageError(" ".join(message.split())) from error


def _hydra(directory: Path) -> AbstractContextManager[object]:
    """Hydra on our files; within a command it is running already."""
    if GlobalHydra.instance().is_initialized():
        return nullcontext()
    return initialize_config_dir(str(directory), version_base="1.3")


def _names(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """The dotted names of all values."""
    for key in config:
        node = config._get_node(key)
        if isinstance(node, DictConfig):
            yield from _names(node, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def quoted(value: str) -> str:
    """A value of an override as Hydra's grammar reads it, whatever it holds."""
    return "'" + value.replace("'", "\\'") + "'"


def register_resolvers() -> None:
    """Make ``${when:test,yes,no}`` known to OmegaConf."""
    OmegaConf.register_new_resolver("when", lambda test, yes, no: yes if test else no, replace=True)
