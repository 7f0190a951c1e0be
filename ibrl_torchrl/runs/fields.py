"""Fields of tables and configurations in run folders, checked by type and range."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

_MAX_TEXT = 1000  # characters of a name, a hash or a command
_MAX_COUNT = 2**53  # integers that a float represents


def finite(text: str) -> float:
    """Finite number.

    Raises:
        ValueError: it is none.
    """
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value


def fraction(text: str) -> float:
    """Number from 0 to 1.

    Raises:
        ValueError: it is none.
    """
    value = finite(text)
    if not 0 <= value <= 1:
        raise ValueError(f"{text!r} is not from 0 to 1")
    return value


def count(text: str | int, at_least: int = 0) -> int:
    """Integer of at least ``at_least``.

    Raises:
        ValueError: it is none.
    """
    if isinstance(text, (bool, float)):
        raise ValueError(f"{text!r} is not an integer")
    value = int(text)
    if not at_least <= value <= _MAX_COUNT:
        raise ValueError(f"{text!r} is not an integer of at least {at_least}")
    return value


def flag(text: str) -> bool:
    """``"0"`` or ``"1"`` as bool.

    Raises:
        ValueError: another text.
    """
    if text not in ("0", "1"):
        raise ValueError(f"{text!r} is neither 0 nor 1")
    return text == "1"


def optional(parse: Callable[[str], float], text: str, empty: str = "") -> float | None:
    """Field that may be empty, as None."""
    return None if text == empty else parse(text)


def name(value: object) -> str:
    """Printable text of 1 to 1000 characters.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= _MAX_TEXT:
        raise ValueError(f"{str(value)[:50]!r} is not a name")
    return value


def names(value: object) -> Mapping[str, Any]:
    """Mapping whose keys are names.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{str(value)[:50]!r} is not a mapping")
    for key in value:
        name(key)
    return value
