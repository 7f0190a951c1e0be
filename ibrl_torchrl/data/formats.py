"""Formats of demonstrations, told apart and opened without PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from ibrl_torchrl.data.nodes import get_node, names_in
from ibrl_torchrl.errors import UsageError, brief

LEROBOT_INFO = "meta/info.json"
MINARI_METADATA = "metadata.json"
# h5py raises any of these for a damaged file, depending on the damaged byte.
_DAMAGES = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError, OSError),
    *(RuntimeError, TypeError, ValueError),
)


def require_demos(path: Path) -> None:
    """Refuse what is no file or folder of demonstrations; episodes are not read.

    Raises:
        UsageError: the path is missing, damaged, or in no known format.
    """
    if not path.is_dir():
        with open_demos(path) as file:
            data_group(file, path)
    elif not is_lerobot(path) and not is_minari(path):
        raise unknown_folder(path)


def is_lerobot(path: Path) -> bool:
    """Whether a folder is a dataset of LeRobot."""
    return (path / LEROBOT_INFO).is_file()


def is_minari(path: Path) -> bool:
    """Whether a folder is a dataset of Minari: the dataset's or its ``data``."""
    return (minari_folder(path) / MINARI_METADATA).is_file()


def minari_folder(path: Path) -> Path:
    """Folder of the files of a dataset of Minari."""
    return path / "data" if (path / "data" / MINARI_METADATA).is_file() else path


def unknown_folder(path: Path) -> UsageError:
    """Error for a folder that is in no known format."""
    return UsageError(
        f"{path}: is a folder without {LEROBOT_INFO} (LeRobot) and data/{MINARI_METADATA} "
        "(Minari); give a dataset's folder or an HDF5 file"
    )


@contextmanager
def open_demos(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; errors of h5py inside the context become one-line messages.

    Args:
        path: the file.

    Yields:
        The open file.

    Raises:
        UsageError: the file is missing or damaged, or refers to other files.
    """
    if path.is_dir():
        raise UsageError(
            f"{path}: is a folder, an HDF5 file is needed; convert a dataset: "
            f"ibrl demos convert {path} out=FILE.hdf5 to=robomimic"
        )
    if not path.is_file():
        raise UsageError(f"{path}: no such file; check the path or record demonstrations first")
    try:
        with h5py.File(path, locking="best-effort") as file:
            yield file
    except _DAMAGES as error:
        reason = brief(error, 200) or type(error).__name__
        raise UsageError(
            f"{path}: not a readable HDF5 file, copy or record it again ({reason})"
        ) from error


def data_group(file: h5py.File, path: Path) -> h5py.Group:
    """Return the group of all episodes.

    Raises:
        UsageError: there is none.
    """
    data = get_node(file, "data")
    if not isinstance(data, h5py.Group):
        raise UsageError(
            f"{path}: no group 'data', found {names_in(file)}; this is not robomimic's layout"
        )
    return data
