"""Errors that a user can fix, reported in one line."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType


class UsageError(Exception):
    """Error that the user can fix.

    The message is one line that names the invalid value and the remedy. The command line prints it
    and exits with code 2; any other exception is a defect of this package.
    """


def require_extra(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: name of the module to import, such as ``"metaworld"``.
        extra: the extra of this package that installs it.

    Returns:
        The imported module.

    Raises:
        UsageError: the module is not installed; the message is its install line.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise UsageError(
            f"{module} is not installed; install it with: pip install 'ibrl_torchrl[{extra}]'"
        ) from error


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Error for an unknown name.

    Args:
        kind: kind of the name, such as ``"Meta-World task"``.
        name: the unknown name.
        known: all known names.

    Returns:
        Error to raise; its message lists the closest names, or all where none is close.
    """
    known = sorted(known)
    close = get_close_matches(name, known)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}"
    return UsageError(f"unknown {kind} {name!r}; {hint}")
