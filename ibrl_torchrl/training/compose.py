"""The shipped YAML files, composed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import ibrl_torchrl


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
    """
    register_resolvers()
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        return compose(file, [*overrides])


def register_resolvers() -> None:
    """Make ``${when:test,yes,no}`` known to OmegaConf."""
    OmegaConf.register_new_resolver("when", lambda test, yes, no: yes if test else no, replace=True)
