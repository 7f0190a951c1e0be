"""Declaration and validation of settings: default, limits, choices, unit and help of a field."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from omegaconf import MISSING, DictConfig, OmegaConf

from ibrl_torchrl.errors import UsageError, brief

_KEY = "setting"
MAX_WORKERS = 8  # by default
# Limits of what a setting of any name takes.
_MAX_INTEGER = 2**63 - 1
_MAX_TEXT = 4096  # characters; a path has at most as many
_MAX_ENTRIES = 10_000

# Limits of several settings.
MAX_SEED = 2**32 - 1  # of NumPy's global generator
MAX_FIRST_SEED = 2**31  # the seeds of many more episodes follow
MAX_THREADS = 1024
MOST_WORKERS = 256
MAX_WIDTH = 2**16
MAX_BATCH = 2**20


@dataclass(frozen=True)
class Setting:
    """Description of one setting beside its type and default.

    Attributes:
        help: one sentence.
        choices: the allowed values; None allows all.
        at_least: smallest allowed value; of a list, smallest allowed length and entry.
        above: value that the setting must exceed.
        at_most: largest allowed value.
        below: value that the setting must stay under.
        unit: unit of the value, such as ``"frames"``.
    """

    help: str
    choices: tuple[str, ...] | None = None
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    unit: str | None = None

    @property
    def limits(self) -> str:
        """Limits in words, such as ``"at least 1"``; empty without limits."""
        bounds = {
            "at least": self.at_least,
            "above": self.above,
            "at most": self.at_most,
            "below": self.below,
        }
        return " and ".join(
            f"{word} {value if isinstance(value, int) else f'{value:g}'}"
            for word, value in bounds.items()
            if value is not None
        )

    def violation(self, value: Any) -> str | None:
        """What ``value`` should be instead; None where it is valid. None itself is valid."""
        if value is None:
            return None
        if (expected := _unusable(value)) is not None:
            return expected
        if isinstance(value, Mapping):
            return next((bad for item in value.values() if (bad := self.violation(item))), None)
        if isinstance(value, (list, tuple)):
            if self.at_least is not None and not value:
                return "a list of one or more"
            return next((bad for item in value if (bad := self.violation(item))), None)
        if self.choices is not None and value not in self.choices:
            return f"one of {', '.join(self.choices)}"
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            inside = (
                (self.at_least is None or value >= self.at_least)
                and (self.above is None or value > self.above)
                and (self.at_most is None or value <= self.at_most)
                and (self.below is None or value < self.below)
            )
            return None if inside else self.limits
        return None


def _unusable(value: Any) -> str | None:
    """What a value of any setting should be instead; None where nothing is wrong with it."""
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    if isinstance(value, int) and abs(value) > _MAX_INTEGER:
        return "a number of at most 64 bits"
    if isinstance(value, str) and not (value.isprintable() and len(value) <= _MAX_TEXT):
        return f"printable text of at most {_MAX_TEXT} characters"
    if isinstance(value, (list, tuple, Mapping)) and len(value) > _MAX_ENTRIES:
        return f"at most {_MAX_ENTRIES} values"
    return None


def setting(
    default: Any = MISSING,
    *,
    help: str,
    choices: Sequence[str] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    unit: str | None = None,
) -> Any:
    """Field of a settings dataclass, see :class:`Setting`.

    Args:
        default: value, list, or a function without arguments that makes one, such as a settings
            dataclass; without a default the setting has to be given.
        help: one sentence.
        choices, at_least, above, at_most, below, unit: see :class:`Setting`.
    """
    about = Setting(
        help, None if choices is None else tuple(choices), at_least, above, at_most, below, unit
    )
    metadata = {_KEY: about}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def described(field: dataclasses.Field[Any]) -> Setting:
    """Description of a field made by :func:`setting`."""
    return field.metadata[_KEY]


def leaves(config: DictConfig, prefix: str = "") -> Iterator[tuple[str, Setting, Any]]:
    """Every given setting of a structured configuration: dotted name, description and value."""
    for field in dataclasses.fields(cast(type[Any], OmegaConf.get_type(config))):
        if OmegaConf.is_missing(config, field.name):
            continue
        value, name = config[field.name], f"{prefix}{field.name}"
        if _is_structured(value):
            yield from leaves(value, f"{name}.")
        elif isinstance(value, DictConfig) and any(map(_is_structured, value.values())):
            for key in map(str, value):
                yield from leaves(value[key], f"{name}.{key}.")
        else:
            is_list_or_dict = OmegaConf.is_config(value)
            plain = OmegaConf.to_container(value, resolve=True) if is_list_or_dict else value
            yield name, described(field), plain


def _is_structured(node: Any) -> bool:
    return isinstance(node, DictConfig) and dataclasses.is_dataclass(OmegaConf.get_type(node))


def require_valid(config: DictConfig) -> None:
    """Refuse values outside of the limits and choices of their settings.

    Args:
        config: structured configuration, of which no dataclass has been made yet: their checks of
            several settings rely on the limits of each.

    Raises:
        UsageError: names the first invalid setting, its value and what it should be.
    """
    for name, about, value in leaves(config):
        if (expected := about.violation(value)) is not None:
            require(False, name, value, expected)


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Refuse a value in one line.

    Raises:
        UsageError: the condition does not hold.
    """
    if not condition:
        raise UsageError(f"{name}={brief(value)} must be {expected}")


def num_workers(configured: int | None, *, reserved: int) -> int:
    """Number of worker processes: as configured, or one a free core, 1 to ``MAX_WORKERS``.

    Args:
        configured: the setting; None counts the cores that this process may use.
        reserved: cores that are left to others.
    """
    if configured is not None:
        return configured
    return max(1, min(MAX_WORKERS, len(os.sched_getaffinity(0)) - reserved))
