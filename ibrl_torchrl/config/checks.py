"""Checks of settings."""

from __future__ import annotations

import os
from collections.abc import Collection

from ibrl_torchrl.errors import UsageError


def _check(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise UsageError(f"{name}={value} must be {expected}")


def _check_choice(name: str, value: str, choices: Collection[str]) -> None:
    _check(value in choices, name, value, f"one of {', '.join(choices)}")


def _number_of_workers(name: str, given: int | None, cores: int) -> int:
    """As given; or one for each core that they may have, at most 8 and at least 1."""
    _check(given is None or given >= 0, name, given, "null or 0 or more")
    return max(1, min(8, cores)) if given is None else given


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))
