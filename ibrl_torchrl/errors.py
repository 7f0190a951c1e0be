"""Errors that a user can fix, reported in one line."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType


class UsageError(Exception):
    """Error that the user can fix, such as an invalid setting or a missing file.

    Its message is one line: the invalid value, the reason and the remedy. The command line prints
    it and exits with code 2; any other exception is a bug of this package.
    """


class NotFinite(UsageError):
    """Divergence: an observation, a loss or another metric is NaN or inf."""


def brief(value: object, length: int = 100) -> str:
    """Text of a value for a message: one line of printable characters, cut where it is long.

    Args:
        value: value, such as the content of a file of unknown origin.
        length: characters at most, default 100.

    Example:
        >>> from ibrl_torchrl.errors import brief
        >>> brief("two\\nlines"), brief([1] * 1000, length=10)
        ('two lines', '[1, 1, 1, ...')
    """
    text = value if isinstance(value, str) else str(value)
    line = " ".join(text[: 4 * length + 100].split())
    line = "".join(char if char.isprintable() else "?" for char in line)
    return line if len(line) <= length else f"{line[:length]}..."


def require_extra(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: name of the module to import, such as ``"metaworld"``.
        extra: extra of this package that installs it.

    Returns:
        The imported module.

    Raises:
        UsageError: the module is not installed; the message has the install command.
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
        Error to raise; its message lists similar names, or all known ones if none is similar and
        they are few enough to read (60).

    Example:
        >>> from ibrl_torchrl.errors import unknown_name
        >>> unknown_name("encoder", "vitt", ["vit", "resnet18"])
        UsageError("unknown encoder 'vitt'; did you mean vit?")
    """
    known = sorted(known)
    close = get_close_matches(name, known)
    listed = f"known are {', '.join(known)}" if known else "there are none"
    if len(known) > 60:
        listed = f"none of the {len(known)} known is similar; see the command's --help"
    hint = f"did you mean {' or '.join(close)}?" if close else listed
    return UsageError(f"unknown {kind} {name!r}; {hint}")
