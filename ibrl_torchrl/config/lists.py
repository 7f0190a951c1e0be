"""Lists and mappings on the command line.

Lists: ``algos=ibrl,td3``, ``seeds=1-200``, ``seeds=range(1,201)``; mappings with names of the
user's: ``demos.keys.state=[ee_pos,gripper]``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from ibrl_torchrl.errors import UsageError

MAX_NUMBERS = 10_000
_RANGE = re.compile(r"range\((-?\d+),(-?\d+)(?:,(\d+))?\)")
_SPAN = re.compile(r"(\d+)-(\d+)")


def item_type(annotation: Any) -> Any:
    """Type of the items where an annotation is ``list[X]`` or ``list[X] | None``; else None."""
    for candidate in (annotation, *get_args(annotation)):
        if get_origin(candidate) is list:
            return get_args(candidate)[0]
    return None


def list_override(schema: type[Any], override: str) -> str:
    """An override of a list without brackets as one with brackets; others as they are.

    For commands without sweeps: Hydra takes ``1,2`` and ``range(1,3)`` for a sweep.

    Args:
        schema: dataclass of the command's settings.
        override: such as ``"seeds=1-3,7"``.

    Raises:
        UsageError: a range is empty or has more than ``MAX_NUMBERS`` numbers.

    Example:
        >>> from ibrl_torchrl.config.commands import BenchConfig
        >>> list_override(BenchConfig, "seeds=1-3,7")
        'seeds=[1,2,3,7]'
        >>> list_override(BenchConfig, "algos=ibrl,td3")
        'algos=[ibrl,td3]'
    """
    name, equals, value = override.partition("=")
    item = item_type(get_type_hints(schema).get(name))
    text = value.strip()
    if not equals or item is None or not text or text[0] in "'\"":
        return override
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    if item is int:
        return f"{name}=[{','.join(_numbers(override, text))}]"
    return override if "[" in text else f"{name}=[{text}]"


def mapping_override(schema: type[Any], override: str) -> str:
    """An override of an entry of a mapping as one that may add it; others as they are.

    Args:
        schema: dataclass of the command's settings.
        override: such as ``"demos.keys.state=[ee_pos,gripper]"``.

    Example:
        >>> from ibrl_torchrl.config.commands import BCRunConfig
        >>> mapping_override(BCRunConfig, "demos.keys.state=[ee_pos,gripper]")
        '++demos.keys.state=[ee_pos,gripper]'
        >>> mapping_override(BCRunConfig, "demos.noise=0.1")
        'demos.noise=0.1'
    """
    names = override.partition("=")[0].split(".")
    annotation: Any = schema
    for name in names[:-1]:
        if not is_dataclass(annotation):
            return override
        annotation = get_type_hints(annotation).get(name)
    is_mapping = get_origin(annotation) is dict and not is_dataclass(get_args(annotation)[1])
    return f"++{override}" if is_mapping else override


def _numbers(override: str, text: str) -> Iterator[str]:
    """Items of a list of integers, ranges expanded; what is no range stays as it is."""
    compact = re.sub(r"\s", "", text)
    for part in re.findall(r"range\([^)]*\)|[^,]+", compact):
        if match := _RANGE.fullmatch(part):
            start, stop, step = int(match[1]), int(match[2]), int(match[3] or 1)
        elif match := _SPAN.fullmatch(part):
            start, stop, step = int(match[1]), int(match[2]) + 1, 1
        else:
            yield part
            continue
        if step == 0 or not 0 < len(numbers := range(start, stop, step)) <= MAX_NUMBERS:
            raise UsageError(
                f"{override}: must be FIRST-LAST or range(FIRST,END), of 1 to {MAX_NUMBERS} numbers"
            )
        yield from map(str, numbers)
