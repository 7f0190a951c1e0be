"""Groups, datasets and attributes of an HDF5 file of unknown origin.

HDF5 can refer to other files of the machine, by external links, external storage and virtual
datasets, and a file of a few hundred bytes can declare an array of terabytes. Nothing outside of
the file is opened here, and no array is read that is larger than its stored bytes can hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import h5py
import numpy as np

from ibrl_torchrl.errors import brief

# HDF5's own filters shrink by at most 1032 to 1 (deflate); chunks that were never written are
# filled with zeros, for which nothing is stored.
_MAX_EXPANSION = 1100
_MAX_SOFT_LINKS = 8
_MAX_TEXT = 64 << 20  # bytes of a text; robosuite's models have up to 1 MB


def get_node(group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset | None:
    """Group or dataset of the same file by its path; None if there is none.

    Args:
        group: group of the file.
        path: names separated by ``"/"``, relative to the group, or to the root with a leading one.

    Raises:
        ValueError: a link on the path leads to another file, or links follow one another for ever.
    """
    return _follow(group, path, _MAX_SOFT_LINKS)


def _follow(group: h5py.Group, path: str, remaining: int) -> h5py.Group | h5py.Dataset | None:
    node = group.file if path.startswith("/") else group
    for name in filter(None, path.split("/")):
        # h5py's `in` and `get` open the target; HDF5's functions of links do not.
        key = name.encode(errors="surrogateescape")
        if not isinstance(node, h5py.Group) or not node.id.links.exists(key):
            return None
        kind = node.id.links.get_info(key).type
        if kind == h5py.h5l.TYPE_EXTERNAL:
            raise ValueError(f"{node.name}/{name} is a link to another file; copy the data here")
        if kind == h5py.h5l.TYPE_SOFT:
            if remaining == 0:
                raise ValueError(f"{node.name}/{name} is a link without end")
            target = node.id.links.get_val(key).decode(errors="surrogateescape")
            node = _follow(node, target, remaining - 1)
        else:
            node = node[name]
    return node if isinstance(node, (h5py.Group, h5py.Dataset)) else None


def read_array(dataset: h5py.Dataset) -> np.ndarray:
    """Read a dataset whose bytes are in its file.

    Raises:
        ValueError: its bytes are in other files, or fewer are stored than its shape declares.
    """
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{dataset.name} is stored in another file; copy the data here")
    stored = dataset.id.get_storage_size()
    declared = dataset.dtype.itemsize * max(
        math.prod(dataset.shape), math.prod(dataset.chunks or (0,))
    )
    if declared > _MAX_EXPANSION * stored:
        raise ValueError(
            f"{dataset.name} of shape {list(dataset.shape)} declares {declared} bytes, {stored} "
            "are stored"
        )
    return dataset[()]


def read_text(attributes: Mapping[str, object], name: str) -> str | None:
    """Text of an attribute; None if there is none.

    Raises:
        ValueError: the attribute is no text, or longer than 64 MiB.
    """
    if name not in attributes:
        return None
    value = attributes[name]
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise ValueError(f"the attribute {name} is no text")
    return str(value)


def read_names(dataset: h5py.Group | h5py.Dataset | None, name: str) -> list[str]:
    """Names in a one-dimensional dataset of text.

    Raises:
        ValueError: it is not one.
    """
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 1 or dataset.dtype.kind not in "SO":
        raise ValueError(f"{name} is not a list of names")
    if dataset.dtype.kind == "O" and h5py.check_string_dtype(dataset.dtype) is None:
        raise ValueError(f"{name} is not a list of names")
    return [item.decode() if isinstance(item, bytes) else str(item) for item in read_array(dataset)]


def names_in(group: h5py.Group | h5py.Dataset | None) -> str:
    """Names in a group, for messages."""
    return (brief(", ".join(group)) if isinstance(group, h5py.Group) else "") or "nothing"
