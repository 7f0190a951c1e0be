"""Console output: progress bars on a terminal, lines everywhere."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ibrl_torchrl.files import open_in_place


def progress_bar(items: Iterable[Any] | None = None, **settings: Any) -> tqdm[Any]:
    """Progress bar on standard error, disabled if that is not a terminal.

    Args:
        items: iterable to wrap; None (default) for a bar that is updated manually.
        **settings: arguments of ``tqdm``.
    """
    return tqdm(items, disable=None, **settings)


def echo(line: str) -> None:
    """Print a line to standard output, above a progress bar, at once also to a pipe or file."""
    tqdm.write(line)
    sys.stdout.flush()


def leave_terminal() -> None:
    """Discard what is written to a terminal from now on: writing to a closed one is an error."""
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):  # a closed one no longer tells by isatty
            os.dup2(null, descriptor)
    os.close(null)


@contextmanager
def redirect_output(file: Path | None) -> Iterator[None]:
    """Redirect standard output and standard error to a file, which is appended to.

    An exception that leaves the block is also written to the file.

    Args:
        file: file; None changes nothing.

    Raises:
        UsageError: the file is a link or cannot be written.
    """
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    opened = io.TextIOWrapper(open_in_place(file, "ab"), write_through=True)
    with opened as log, redirect_stdout(log), redirect_stderr(log):
        try:
            yield
        except BaseException as error:
            with suppress(OSError):  # a full disk, which is the error itself
                print(f"error: {str(error) or type(error).__name__}", file=sys.stderr)
            raise
