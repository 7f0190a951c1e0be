"""Console output: progress bars on a terminal, lines everywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from tqdm import tqdm


def progress_bar(items: Iterable[Any] | None = None, **settings: Any) -> tqdm:
    """Progress bar on standard error, disabled where that is not a terminal."""
    return tqdm(items, disable=None, **settings)


def echo(line: str) -> None:
    """Print a line to standard output, above a progress bar."""
    tqdm.write(line)


@contextmanager
def redirect_output(file: Path | None) -> Iterator[None]:
    """Append standard output and errors to a file instead of the terminal; None changes nothing.

    An exception of the block is written there too before it is raised.
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
