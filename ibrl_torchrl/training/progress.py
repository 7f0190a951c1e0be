"""What a person sees while a job works: bars on a terminal, lines everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def bar(items: Iterable[Any] | None = None, **settings: Any) -> tqdm:
    """A progress bar on standard error, silent where that is not a terminal."""
    return tqdm(items, disable=None, **settings)


def say(line: str) -> None:
    """Print a line to standard output without tearing a bar apart."""
    tqdm.write(line)
