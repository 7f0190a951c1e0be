"""Composition of settings: defaults of the dataclasses, then the YAML files, then overrides."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ibrl_torchrl.config.commands import COMMANDS, Command
from ibrl_torchrl.config.networks import EncoderConfig
from ibrl_torchrl.config.renamed import renamed_setting
from ibrl_torchrl.errors import UsageError, brief, unknown_name

DEFAULT_TASK = "metaworld/box-close"
DEFAULT_METHOD = "ibrl_plus"
PAPER_METHOD = "ibrl"  # of other experiments
_DEFAULT_METHOD_EXPERIMENTS = (None, "small_lift", "small_can", "small_square", "small_pixels")
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
    OmegaConf.register_new_resolver("method_of", method_of, replace=True)
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
    method: list[dict[str, str | None]] = [{"algo": "${method_of:${experiment}}"}]
    return [
        *(experiment if "experiment" in command.groups else []),
        *(method if "algo" in command.groups else []),
    ]


def method_of(experiment: str | None) -> str:
    """Method where ``algo=`` names none.

    The paper's experiments are of its method. The default was not steady from pixels, and its
    loss is not that of chunks.

    Args:
        experiment: name of an experiment; None without one.
    """
    return DEFAULT_METHOD if experiment in _DEFAULT_METHOD_EXPERIMENTS else PAPER_METHOD


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
    try:
        with _hydra(config_directory()):
            return compose(name, [*overrides])
    except (HydraException, OmegaConfBaseException) as error:
        raise usage_error(error, name) from error
    except ValueError as error:  # a group of settings that is set to null
        empty = next((each for each in overrides if each.endswith(("=null", "="))), None)
        if empty is None:
            raise
        raise UsageError(f"{empty}: {brief(error)}; name one of its options") from error


def usage_error(error: Exception, name: str) -> UsageError:
    """Error of Hydra's in one line, with the nearest names.

    Args:
        error: error of Hydra or OmegaConf while it composed a configuration.
        name: name of the primary configuration.
    """
    message = str(error)
    if match := re.search(r"Could not find '(.+?)'", message):
        group, _, option = match.group(1).partition("/")
        return _unknown_option(group, option)
    if match := re.search(r"Could not override '(.+?)'", message):
        return _unknown_setting(match.group(1), name)
    return UsageError(brief(message, 500))


def options(group: str) -> list[str]:
    """Options of a config group, such as ``"algo"`` or ``"task/metaworld"``, sorted."""
    folder = config_directory() / group
    paths = folder.rglob("*.yaml")
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in paths)
    return sorted(name for name in names if name.split("/")[-1] != "base")


def task_option(suite: str, name: str) -> str | None:
    """Option of the group ``task`` for a simulator's name of a task; None where there is none.

    Example:
        >>> task_option("robosuite", "PickPlaceCan"), task_option("metaworld", "assembly-v3")
        ('robosuite/can', 'metaworld/assembly')
    """
    plain = re.sub(r"-v\d+$", "", name)  # Meta-World's names end in a version
    for option in options("task"):
        folder, _, end = option.partition("/")
        text = (config_directory() / "task" / f"{option}.yaml").read_text()
        named = re.search(r"^name: *(\S+)", text, re.MULTILINE)
        if folder == suite and plain in (end, named and named[1]):
            return option
    return None


def option_names(group: str) -> list[str]:
    """Options of a group, more than 30 of them by folder, such as ``"metaworld/... (50)"``."""
    names = options(group)
    if len(names) <= 30:
        return names
    counts = Counter(name.split("/")[0] for name in names if "/" in name)
    folders = [f"{folder}/... ({count})" for folder, count in counts.items()]
    return sorted([*folders, *(name for name in names if "/" not in name)])


def _unknown_option(group: str, name: str) -> UsageError:
    """Error for an unknown option; in groups with folders the last part of a name decides."""
    known, last = options(group), name.split("/")[-1]
    ends: dict[str, list[str]] = defaultdict(list)
    for option in known:
        ends[option.split("/")[-1]].append(option)
    if len(ends) == 0 or "/" not in "".join(known):
        return unknown_name(group, name, known)
    close = [f"{group}={option}" for end in _close(last, ends) for option in ends[end]]
    if close:
        hint = f"did you mean {' or '.join(close)}?"
    else:
        within = [option for option in known if option.startswith(f"{name}/")]
        hint = f"known are {', '.join(within or option_names(group))}"
    return UsageError(f"unknown {group} {name!r}; {hint}")


def _close(name: str, known: Iterable[str]) -> list[str]:
    known = [*known]
    return [name] if name in known else get_close_matches(name, known)


def _unknown_setting(setting: str, config_name: str) -> UsageError:
    command = next(each for each in COMMANDS.values() if each.config_name == config_name)
    train = COMMANDS["train"]
    if (renamed := renamed_setting(setting)) is not None:
        return renamed
    if command is not train:
        trained = [*train.groups, *setting_names(composed(train.config_name))]
        if any(f"{name}.".startswith(f"{setting}.") for name in trained):
            return UsageError(f"{setting}: is a setting of ibrl train; {_remedy(command, setting)}")
    return unknown_name("setting", setting, setting_names(composed(config_name)))


def _remedy(command: Command, setting: str) -> str:
    """How a command comes by a setting of training."""
    if command.rest is not None:
        return f"for every run write it after --: ibrl {command.name} ... -- {setting}=..."
    if command.argument == "run":
        return f"ibrl {command.name} takes it from the run; train another with {setting}=..."
    return f"ibrl {command.name} does without it"


def _hydra(directory: Path) -> AbstractContextManager[object]:
    """Hydra on our files; within a command it is initialised already."""
    if GlobalHydra.instance().is_initialized():
        return nullcontext()
    return initialize_config_dir(str(directory), version_base="1.3")


def setting_names(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Dotted names of all values of a configuration."""
    for key in map(str, config):
        node = config._get_node(key)
        if isinstance(node, DictConfig) and node and not node._is_interpolation():
            yield from setting_names(node, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def trial_number() -> int | None:
    """Number of this process's trial in a sweep (``--multirun``); None outside of one."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return int(HydraConfig.get().job.num)
    return None


def quoted(value: str) -> str:
    """A value as an override of Hydra's grammar, whatever characters it has."""
    return "'" + value.replace("'", "\\'") + "'"
