"""What a person sees while a job works: bars on a terminal, lines everywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from tqdm import tqdm


def progress_bar(items: Iterable[Any] | None = None, **settings: Any) -> tqdm:
    """A progress bar on standard error, silent where that is not a terminal."""
    return tqdm(items, disable=None, **settings)


def echo(line: str) -> None:
    """Print a line to standard output without tearing a bar apart."""
    tqdm.write(line)


@contextmanager
def redirect_output(file: Path | None) -> Iterator[None]:
    """Send lines and warnings to the end of a file, not to the terminal; None changes nothing.

    What went wrong in the block is written there before it is raised.
    """
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", buffering=1) as log, redirect_stdout(log), redirect_stderr(log):
        try:
            yield
        except BaseException as error:
            print(f"error: {str(error) or type(error).__name__}", file=sys.stderr)
            raise
