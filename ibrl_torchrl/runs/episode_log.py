"""Log of a run's training episodes, which refills the replay of a resumed run.

An episode is written once, so that the cost of a checkpoint depends on the number of episodes since
the last one, not on the size of the replay.
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
from ibrl_torchrl.runs.contents import entry, require_packed_episode

_KIND = "episodes"


class EpisodeLog:
    """Append-only log of episodes in a folder.

    Args:
        folder: folder of the files, created by the first :meth:`flush`.
        keys: observation keys to write.
        frame_stack: images in an observation, of which the newest alone is written. Default 1.
        state_stack: states in any other observation, likewise. Default 1.
    """

    def __init__(
        self, folder: Path, keys: Sequence[str], *, frame_stack: int = 1, state_stack: int = 1
    ) -> None:
        self._folder = folder
        self._keys = keys
        self._stacks = {"frame_stack": frame_stack, "state_stack": state_stack}
        self._num_written = 0
        self._unwritten: list[dict[str, Tensor]] = []

    def append(self, episode: TensorDictBase) -> None:
        """Append an episode, TensorDict [T]; the next :meth:`flush` writes it."""
        self._unwritten.append(pack_episode(episode, self._keys, **self._stacks))

    def flush(self) -> int:
        """Write the episodes since the last flush atomically.

        Returns:
            Number of all written episodes.

        Raises:
            UsageError: the folder cannot be written to, or the disk is full.
        """
        if self._unwritten:
            self._folder.mkdir(exist_ok=True)
            meta = {"first": self._num_written, "count": len(self._unwritten)}
            state = {str(i): episode for i, episode in enumerate(self._unwritten)}
            save_checkpoint(self._folder / f"{self._num_written:07d}.pt", _KIND, meta, state)
            self._num_written += len(self._unwritten)
            self._unwritten = []
        return self._num_written

    def read(self, count: int) -> Iterator[TensorDict]:
        """Read the first ``count`` episodes, and delete files of later ones.

        Args:
            count: number of episodes at the last checkpoint.

        Yields:
            Episodes, TensorDicts [T], with stacked observations.

        Raises:
            UsageError: a file is missing or damaged, or an episode has NaN or inf.
        """
        for path in sorted(self._folder.glob("*.pt")):
            if self._num_written >= count:
                path.unlink()
                continue
            meta, state = load_checkpoint(path, _KIND, {})
            first, num_episodes = entry(meta, "first", int, path), entry(meta, "count", int, path)
            if first != self._num_written:
                raise UsageError(
                    f"{self._folder}: holds no episode {self._num_written}, which precedes "
                    f"{path.name}; start the run again"
                )
            if not 0 < num_episodes <= len(state):
                raise UsageError(f"{path}: holds {len(state)} episodes, not {num_episodes}")
            for index in range(num_episodes):
                require_packed_episode(state.get(str(index)), f"{path}: episode {index}")
                yield unpack_episode(state[str(index)], **self._stacks)
            self._num_written += num_episodes
        if self._num_written != count:
            raise UsageError(
                f"{self._folder}: holds {self._num_written} episodes, the checkpoint was written "
                f"after {count}; start the run again"
            )

    def remove(self) -> None:
        """Delete the folder and all files in it."""
        shutil.rmtree(self._folder, ignore_errors=True)
