"""Plain data of a run folder: YAML and JSON of bounded size, without aliases or interpolations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml.events import AliasEvent

from ibrl_torchrl.errors import UsageError

MAX_YAML_BYTES = 100_000  # a run's configuration has about 3,000
MAX_JSON_BYTES = 10_000_000  # run.json grows by about 700 with each resumption


class _PlainLoader(yaml.SafeLoader):
    """YAML loader without aliases, of which a few hundred bytes can stand for terabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(AliasEvent):
            raise yaml.YAMLError("it has an alias, which no file of this program has")
        return super().compose_node(parent, index)


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a configuration as this program writes it: nested mappings, lists and scalars.

    Interpolations, such as ``${oc.env:HOME}``, are refused, not resolved.

    Args:
        file: YAML file.

    Raises:
        UsageError: the file cannot be read, exceeds ``MAX_YAML_BYTES``, or holds something else
            than a mapping of plain data.
    """
    try:
        content = yaml.load(_read(file, MAX_YAML_BYTES), _PlainLoader)  # a safe loader
        _require_plain(content)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise _unreadable(file, error) from error
    return dict(content)


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        file: JSON file.

    Raises:
        UsageError: the file cannot be read, exceeds ``MAX_JSON_BYTES``, or holds something else.
    """
    try:
        content = json.loads(_read(file, MAX_JSON_BYTES))
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(file, error) from error
    return content


def _read(file: Path, limit: int) -> str:
    with file.open("rb") as opened:
        content = opened.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it has more than {limit} bytes")
    return content.decode()


def _require_plain(content: Any) -> None:
    """Refuse what a resolved configuration does not hold; the message has no value."""
    if not isinstance(content, dict):
        raise ValueError("it is no mapping of settings")
    for name, value in _values(content, ""):
        if value is not None and not isinstance(value, bool | int | float | str):
            raise ValueError(f"{name} is a {type(value).__name__}")
        if isinstance(value, str) and "${" in value:
            raise ValueError(f"{name} is an interpolation, which a run folder's settings are not")


def _values(content: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Scalars of nested mappings and lists by dotted names; keys that are no text as values."""
    if isinstance(content, dict):
        for key, value in content.items():
            if not isinstance(key, str) or "${" in key:
                yield f"{prefix}name", key if isinstance(key, str) else (key,)
            yield from _values(value, f"{prefix}{key}.")
    elif isinstance(content, list):
        for value in content:
            yield from _values(value, prefix)
    else:
        yield prefix.rstrip("."), content


def _unreadable(file: Path, error: Exception) -> UsageError:
    if isinstance(error, OSError):
        reason = error.strerror or type(error).__name__
    elif isinstance(error, RecursionError):
        reason = "it is nested too deeply"
    else:
        reason = " ".join(str(error).split())[:100]
    return UsageError(f"{file}: cannot be read ({reason})")
