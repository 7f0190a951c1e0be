"""Files that are written atomically or in place, never through links; full disks as one line."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from ibrl_torchrl.errors import UsageError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What file systems without a function answer: exFAT, NFS without a lock daemon, FUSE.
UNSUPPORTED = (
    *(errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP),
    *(errno.EPERM, errno.EMLINK, errno.EXDEV),
)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Context manager of a temporary path that replaces ``path`` when the block succeeds.

    An existing file is unchanged until the new one is flushed to disk, and if the block raises.

    Args:
        path: file to write or replace.

    Yields:
        Path of the temporary file, in the same folder.

    Raises:
        UsageError: the folder cannot be written to, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # of a killed process, or a link
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise UsageError(f"{path}: cannot write here ({error.strerror})") from error
    try:
        with full_disk_reported(path):
            yield temporary
            with temporary.open("rb") as file:
                flush_to_disk(file.fileno())
            os.replace(temporary, path)
            _flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def full_disk_reported(path: Path) -> Iterator[None]:
    """Context manager that reports a full disk, or a reached quota, in one line.

    Args:
        path: file or folder that the block writes.

    Raises:
        UsageError: there is no space left.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise UsageError(
            f"{path}: cannot be written ({os.strerror(error.errno)}); free some space"
        ) from error


def open_in_place(path: Path, mode: str) -> BinaryIO:
    """Open a file that is written in place, unbuffered, and never through a link.

    Args:
        path: file to write; created unless the mode is ``"r+b"``.
        mode: ``"wb"``, ``"ab"`` or ``"r+b"``.

    Raises:
        UsageError: the file is a link, has another name (a hard link), is no regular file, or
            cannot be written; nothing is changed.
    """
    if path.is_symlink():  # also refused by the system call below, with another message
        raise UsageError(f"{path}: is a link, which is not followed; move it away")
    try:
        return cast(BinaryIO, open(path, mode, buffering=0, opener=_open_regular))
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from error


def _open_regular(path: str, flags: int) -> int:
    """File descriptor of a regular file with one name; nothing is truncated before the check."""
    # Without O_NONBLOCK a named pipe would wait for a reader.
    descriptor = os.open(path, flags & ~os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise UsageError(
            f"{path}: is not a regular file, or has a second name (a hard link); move it away"
        )
    if flags & os.O_TRUNC:
        os.ftruncate(descriptor, 0)
    return descriptor


def reserve(path: Path, size: int) -> None:
    """Reserve disk space for a file, which is extended to at least ``size`` bytes.

    Where a library writes the file, a full disk may end the process: a write to a memory map is a
    SIGBUS.

    Args:
        path: file to create or extend; its content is kept.
        size: bytes from the start of the file.

    Raises:
        OSError: the disk is full.
    """
    if size > 0 and hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, size)


def flush_to_disk(descriptor: int) -> None:
    """Flush an open file or folder to disk, where its file system can.

    Raises:
        OSError: the disk is full or fails.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def _flush_folder(folder: Path) -> None:
    """Flush the names in a folder, without which a renamed file may be lost with the power."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # a folder that can be written to and not be listed
        return
    try:
        flush_to_disk(descriptor)
    finally:
        os.close(descriptor)


def link_or_copy(path: Path, name: Path) -> None:
    """Give a file a second name, which it keeps when the first is replaced.

    A hard link; on file systems that have none a copy. An existing file of that name is replaced,
    atomically.

    Args:
        path: existing file.
        name: second name, in the same folder.

    Raises:
        UsageError: the folder cannot be written to, or the disk is full.
    """
    with atomic_path(name) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            shutil.copyfile(path, temporary)


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file atomically.

    Args:
        path: file to write or replace.
        columns: header.
        rows: values in the order of the columns.

    Raises:
        UsageError: the folder cannot be written to, or the disk is full.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([_cell(column) for column in columns])
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: object) -> object:
    """Value of a cell; text that spreadsheets take for a formula gets an apostrophe in front."""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if is_formula and not _is_number(value) else value


def _is_number(text: object) -> bool:
    """Whether text is a number, such as a formatted one below 0."""
    try:
        float(str(text))
    except ValueError:
        return False
    return True


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically.

    Args:
        path: file to write or replace.
        content: JSON object.

    Raises:
        UsageError: the folder cannot be written to, or the disk is full.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
