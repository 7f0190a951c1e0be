"""Errors as one line, with the traceback of a defect in a file."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback

from ibrl_torchrl.errors import UsageError, brief

_MAX_MESSAGE = 2000  # characters
_NO_MEMORY = ("can't allocate memory", "out of memory", "unable to allocate")


def report_error(error: Exception) -> int:
    """Print an error in one line.

    Errors of the user, of files and of memory are explained by themselves. Of any other the
    traceback is saved, or printed if the environment variable ``HYDRA_FULL_ERROR`` is set.

    Returns:
        Exit code: 2 for what the user can fix, otherwise 1.
    """
    message = explanation(error)
    if message is not None:
        print(f"error: {brief(message, _MAX_MESSAGE)}", file=sys.stderr)
        return 2
    if os.environ.get("HYDRA_FULL_ERROR"):
        traceback.print_exception(error)
        return 1
    summary = brief(f"{type(error).__name__}: {error}", 300)
    print(f"error: {summary}; please report it with {_save_traceback(error)}", file=sys.stderr)
    return 1


def explanation(error: Exception) -> str | None:
    """Message of an error that the user can fix; None for a defect of the program."""
    if isinstance(error, UsageError):
        return str(error)
    if isinstance(error, OSError) and error.strerror is not None:
        remedy = "free some space" if error.errno == errno.ENOSPC else "choose another path"
        name = "" if error.filename is None else f"{brief(error.filename, 200)}: "
        return f"{name}{error.strerror}; {remedy}"
    if isinstance(error, MemoryError) or any(part in str(error).lower() for part in _NO_MEMORY):
        return (
            f"there is not enough memory ({brief(error, 200) or 'allocation failed'}); choose "
            "smaller networks, batches or images, or a smaller replay.capacity"
        )
    return None


def _save_traceback(error: Exception) -> str:
    """Write the traceback to a new file and return its path."""
    text = "".join(traceback.format_exception(error))
    try:
        descriptor, path = tempfile.mkstemp(prefix="ibrl-traceback-", suffix=".txt")
        with open(descriptor, "w") as file:
            file.write(f"command: {' '.join(sys.argv)}\n{text}")
    except OSError:  # no folder for temporary files: the traceback itself is better than nothing
        print(text, file=sys.stderr)
        return "the traceback above"
    return path
