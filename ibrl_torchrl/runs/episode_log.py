"""A run's episodes on disk, from which its replay is filled again.

Each is written once, so that a checkpoint costs what has come since the last one, however much the
replay holds.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from ibrl_torchrl.episodes import pack_episode, unpack_episode
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs.checkpoint import load_checkpoint, save_checkpoint

_KIND = "episodes"


class EpisodeLog:
    """Episodes in the order they came, as files of a folder.

    Args:
        folder: of the files; it is made when there is something to write.
        keys: of the observations to keep.
        frame_stack: images in an observation; each is written once.
        state_stack: numbers in an observation, likewise.
    """

    def __init__(
        self, folder: Path, keys: Sequence[str], *, frame_stack: int = 1, state_stack: int = 1
    ) -> None:
        self._folder = folder
        self._keys = keys
        self._stacks = {"frame_stack": frame_stack, "state_stack": state_stack}
        self._written = 0
        self._waiting: list[dict[str, Tensor]] = []

    def append(self, episode: TensorDictBase) -> None:
        """Take an episode [T], to be written with the next :meth:`flush`."""
        self._waiting.append(pack_episode(episode, self._keys, **self._stacks))

    def flush(self) -> int:
        """Write what has come since the last time, whole or not at all.

        Returns:
            How many episodes are written by now.
        """
        if self._waiting:
            self._folder.mkdir(exist_ok=True)
            meta = {"first": self._written, "number": len(self._waiting)}
            state = {str(i): episode for i, episode in enumerate(self._waiting)}
            save_checkpoint(self._folder / f"{self._written:07d}.pt", _KIND, meta, state)
            self._written += len(self._waiting)
            self._waiting = []
        return self._written

    def read(self, count: int) -> Iterator[TensorDict]:
        """Yield the first ``count`` episodes, and forget those after them.

        Raises:
            UsageError: a file is missing or damaged.
        """
        for path in sorted(self._folder.glob("*.pt")):
            if self._written >= count:
                path.unlink()
                continue
            meta, state = load_checkpoint(path, _KIND, {"first": self._written})
            for number in range(meta["number"]):
                yield unpack_episode(state[str(number)], **self._stacks)
            self._written += meta["number"]
        if self._written != count:
            raise UsageError(
                f"{self._folder}: holds {self._written} episodes, the checkpoint was written "
                f"after {count}; begin the run anew"
            )

    def remove(self) -> None:
        """Delete all that is written."""
        shutil.rmtree(self._folder, ignore_errors=True)
