"""Log of a run's training episodes, which refills the replay of a resumed run.

An episode is written once, so that the cost of a checkpoint depends on the number of episodes since
the last one, not on the size of the replay. Episodes whose transitions the replay has overwritten
are deleted, so that the log holds about as much as the replay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from ibrl_torchrl.episodes import pack_episode, succeeds, unpack_episode
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs.checkpoint import load_checkpoint, save_checkpoint
from ibrl_torchrl.runs.contents import require_packed_episode
from ibrl_torchrl.runs.manifest import EPISODE_FILE

_KIND = "episodes"


class LoggedEpisode(NamedTuple):
    """Episode of a log, and what has been deleted before it.

    Attributes:
        episode: TensorDict [T], with stacked observations.
        skipped: transitions of deleted episodes between the previous episode and this one.
        skipped_successful: those of successful episodes among them.
    """

    episode: TensorDict
    skipped: int
    skipped_successful: int


class _Entry(NamedTuple):
    """Place of an episode in the log.

    Attributes:
        number: number of earlier episodes.
        start: transitions of earlier episodes.
        successful_start: transitions of earlier successful episodes.
        length: transitions of this one.
        success: whether it reached a terminal state, as successes in a replay do.
    """

    number: int
    start: int
    successful_start: int
    length: int
    success: bool

    @property
    def next(self) -> _Entry:
        """Place after this episode, of length 0."""
        successful = self.successful_start + self.length * self.success
        return _Entry(self.number + 1, self.start + self.length, successful, 0, False)


_START = _Entry(0, 0, 0, 0, False)


class EpisodeLog:
    """Log of episodes in a folder: appended to, and pruned to what a replay keeps.

    Args:
        folder: folder of the files, created by the first :meth:`flush`.
        keys: observation keys to write.
        frame_stack: images in an observation, of which the newest alone is written. Default 1.
        state_stack: states in any other observation, likewise. Default 1.
        capacity: transitions that the replay keeps, the newest; None (default) for all.
        keep_successes: the replay keeps as many transitions of successful episodes besides, see
            :class:`~ibrl_torchrl.data.replay.MixedReplay`. Default False.
    """

    def __init__(
        self,
        folder: Path,
        keys: Sequence[str],
        *,
        frame_stack: int = 1,
        state_stack: int = 1,
        capacity: int | None = None,
        keep_successes: bool = False,
    ) -> None:
        self._folder = folder
        self._keys = keys
        self._stacks = {"frame_stack": frame_stack, "state_stack": state_stack}
        self._capacity = capacity
        self._keep_successes = keep_successes
        self._files: dict[Path, list[_Entry]] = {}
        self._unwritten: list[tuple[_Entry, dict[str, Tensor]]] = []
        self._end = _START  # place of the next episode
        self._flushed = self._flushed_before = _START  # likewise, at the last two flushes

    def append(self, episode: TensorDictBase) -> None:
        """Append an episode, TensorDict [T]; the next :meth:`flush` writes it."""
        entry = self._end._replace(length=len(episode), success=succeeds(episode))
        self._unwritten.append((entry, pack_episode(episode, self._keys, **self._stacks)))
        self._end = entry.next

    def flush(self) -> int:
        """Write the episodes since the last flush atomically; a checkpoint follows.

        Returns:
            Number of all episodes so far.

        Raises:
            UsageError: the folder cannot be written to, or the disk is full.
        """
        if self._unwritten:
            self._folder.mkdir(exist_ok=True)
            path = self._folder / f"{self._flushed.number:07d}.pt"
            entries = [entry for entry, _ in self._unwritten]
            _write(path, entries, {str(entry.number): each for entry, each in self._unwritten})
            self._files[path] = entries
            self._unwritten = []
        self._flushed_before, self._flushed = self._flushed, self._end
        return self._end.number

    def prune(self) -> None:
        """Delete the episodes that no checkpoint needs, after the one that follows a flush.

        The checkpoint before it is still there, and is the one that needs more.

        Raises:
            UsageError: the folder cannot be written to.
        """
        for path, entries in [*self._files.items()]:
            kept = [entry for entry in entries if self._is_kept(entry)]
            if not kept:
                path.unlink(missing_ok=True)
                del self._files[path]
            elif not any(map(self._is_recent, entries)) and not all(e.success for e in entries):
                # Of a file that the replay has overwritten, successes alone; this is done once.
                _, state = load_checkpoint(path, _KIND, {})
                _write(path, kept, {str(e.number): state[str(e.number)] for e in kept})
                self._files[path] = kept

    def read(self, count: int) -> Iterator[LoggedEpisode]:
        """Read what is left of the first ``count`` episodes, and delete files of later ones.

        Args:
            count: number of episodes at the last checkpoint.

        Yields:
            Episodes in order.

        Raises:
            UsageError: a file is damaged, an episode has NaN or inf, or one that the replay keeps
                is missing.
        """
        end, complete_from, successes_from = _START, _START, _START
        for path in sorted(self._folder.glob(EPISODE_FILE)):
            if int(path.stem) >= count:
                path.unlink()
                continue
            meta, state = load_checkpoint(path, _KIND, {})
            self._files[path] = _entries(path, meta)
            for entry in self._files[path]:
                if entry.number > end.number:
                    complete_from = entry
                if entry.successful_start > end.successful_start:
                    successes_from = entry
                skipped = entry.start - end.start
                successful = entry.successful_start - end.successful_start
                if min(skipped, successful) < 0:
                    raise _damaged(path)
                require_packed_episode(
                    state.get(str(entry.number)), f"{path}: episode {entry.number}"
                )
                episode = unpack_episode(state[str(entry.number)], **self._stacks)
                if len(episode) != entry.length:
                    raise _damaged(path)
                yield LoggedEpisode(episode, skipped, successful)
                end = entry.next
        if end.number != count:
            raise UsageError(
                f"{self._folder}: holds episodes up to {end.number}, the checkpoint was written "
                f"after {count}; start the run again"
            )
        self._require_complete(complete_from, complete_from.start, end.start)
        if self._keep_successes:
            start = successes_from.successful_start
            self._require_complete(successes_from, start, end.successful_start)
        self._end = self._flushed = self._flushed_before = end

    def _require_complete(self, first: _Entry, start: int, end: int) -> None:
        """Refuse a log from whose first unbroken episode on the replay does not become full."""
        if start > 0 and self._is_within(start, end):
            raise UsageError(
                f"{self._folder}: holds no episode {first.number - 1}, which the replay needs; "
                "start the run again"
            )

    def _is_kept(self, entry: _Entry) -> bool:
        return self._is_recent(entry) or (
            self._keep_successes
            and entry.success
            and self._is_within(entry.next.successful_start, self._flushed_before.successful_start)
        )

    def _is_recent(self, entry: _Entry) -> bool:
        return self._is_within(entry.next.start, self._flushed_before.start)

    def _is_within(self, start: int, end: int) -> bool:
        """Whether fewer transitions than the capacity lie between two places."""
        return self._capacity is None or end - start < self._capacity


def read_log(folder: Path) -> Iterator[TensorDict]:
    """Read what a log holds, without changing it.

    Args:
        folder: folder of the log.

    Yields:
        Episodes [T] in order, with single observations.

    Raises:
        UsageError: there are no episodes, a file is damaged, or an episode has NaN or inf.
    """
    paths = sorted(folder.glob(EPISODE_FILE))
    if not paths:
        raise UsageError(
            f"{folder}: holds no episodes; a run writes them with its checkpoints and keeps them "
            "with log.keep_episodes=true"
        )
    for path in paths:
        meta, state = load_checkpoint(path, _KIND, {})
        for entry in _entries(path, meta):
            packed = state.get(str(entry.number), {})
            require_packed_episode(packed, f"{path}: episode {entry.number}")
            yield unpack_episode(packed)


def _write(path: Path, entries: Sequence[_Entry], state: dict[str, Any]) -> None:
    save_checkpoint(path, _KIND, {"episodes": [[*entry] for entry in entries]}, state)


def _entries(path: Path, meta: dict[str, Any]) -> list[_Entry]:
    try:
        places = [[*map(int, entry)] for entry in meta["episodes"]]
        return [_Entry(a, b, c, length, bool(success)) for a, b, c, length, success in places]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> UsageError:
    return UsageError(f"{path}: damaged, or written by another version; start the run again")
