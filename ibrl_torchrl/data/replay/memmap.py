"""Memory-mapped storage whose disk space is reserved before anything is written to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensordict import is_tensor_collection
from torchrl.data import LazyMemmapStorage

from ibrl_torchrl.files import full_disk_reported, reserve


class ReservedMemmapStorage(LazyMemmapStorage):
    """``LazyMemmapStorage`` that reserves the disk space of its files when it is initialized.

    TorchRL's files are sparse: a write for which the disk has no space left ends the process
    (SIGBUS). Here a disk that is too small is an error at the first ``extend``, and one that fills
    later does no harm.

    Args:
        max_size: capacity in items.
        kwargs: keyword arguments of ``LazyMemmapStorage``; without ``scratch_dir`` nothing is
            reserved.

    Raises:
        UsageError: at the first ``extend``, when the disk is full.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from ibrl_torchrl.data.replay.memmap import ReservedMemmapStorage
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     storage = ReservedMemmapStorage(100, scratch_dir=folder)
        ...     storage.set(range(2), TensorDict({"state": torch.zeros(2, 3)}, [2]))
        ...     len(storage)
        2
    """

    def _init(self, data: Any) -> None:
        super()._init(data)
        if self.scratch_dir is None:  # files without names
            return
        is_tensordict = is_tensor_collection(self._storage)
        for tensor in self._storage.values(True, True) if is_tensordict else [self._storage]:
            with full_disk_reported(Path(self.scratch_dir)):
                reserve(Path(tensor.filename), tensor.nbytes)
