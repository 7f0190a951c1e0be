"""Manifest of a run folder: what this program writes there, and alone reads and removes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePath

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import atomic_path
from ibrl_torchrl.runs.names import (
    BEST,
    CHECKPOINT,
    CONFIG,
    CURVE,
    DEMOS,
    DIAGNOSIS_ROLLOUTS,
    DIAGNOSIS_STEPS,
    EPISODES,
    EVAL,
    EVALUATION,
    FAILED,
    IMITATION,
    LOCK,
    LOG,
    MARKER,
    PREVIOUS,
    PROVENANCE,
    REPLAY,
    SPACES,
    SUMMARY,
    TIMING,
    TRAIN,
    VIDEO,
)

_FILES = (
    *(MARKER, LOCK, CONFIG, SPACES, PROVENANCE, LOG, DEMOS, CHECKPOINT, PREVIOUS, BEST, FAILED),
    *(TRAIN, EVAL, EVALUATION, SUMMARY, TIMING, CURVE, VIDEO),
    *(DIAGNOSIS_STEPS, DIAGNOSIS_ROLLOUTS),
)
_FOLDERS = (IMITATION, EPISODES, REPLAY)
_TRACKERS = ("tensorboard", "wandb")  # folders that other programs write for this one

POLICY_FILES = f"{IMITATION}/*.pt"
EPISODE_FILE = 7 * "[0-9]" + ".pt"  # named by its first episode
EPISODE_FILES = f"{EPISODES}/{EPISODE_FILE}"
REPLAY_FILES = (f"{REPLAY}/**/*.memmap", f"{REPLAY}/**/meta.json")

# Results of an unfinished run, removed when it is started again.
RESULTS = (
    *(SPACES, DEMOS, CHECKPOINT, PREVIOUS, BEST, TRAIN, EVAL),
    *(POLICY_FILES, EPISODE_FILES, *REPLAY_FILES),
)
# Temporary files of a killed process, named as `atomic_path` does.
LEFTOVERS = tuple(
    str(PurePath(name).with_name(f".{PurePath(name).name}.[0-9]*.tmp"))
    for name in (*_FILES, POLICY_FILES, EPISODE_FILES)
)
_MARK = "Run folder of ibrl_torchrl: files of its names are replaced and removed.\n"


def is_marked(folder: Path) -> bool:
    """Whether this program made a folder, and may remove what it wrote there."""
    marker = folder / MARKER
    return marker.is_file() and not marker.is_symlink()


def mark(folder: Path) -> None:
    """Mark a folder as made by this program.

    Raises:
        UsageError: it is not marked yet and holds a file or folder of the program's names, which
            someone else has made.
    """
    require_no_foreign_files(folder)
    if not is_marked(folder):
        with atomic_path(folder / MARKER) as temporary:
            temporary.write_text(_MARK)


def require_no_foreign_files(folder: Path) -> None:
    """Refuse a folder that is not marked and has something that a run would replace.

    Raises:
        UsageError: names it.
    """
    if is_marked(folder):
        return
    for name in (*_FILES, *_FOLDERS):
        # A lock and a log are opened before a folder is marked; nothing in them is replaced.
        if name not in (LOCK, LOG) and os.path.lexists(folder / name):
            raise UsageError(
                f"{folder}: holds {name}, but is no run folder of this version; "
                "choose another run_dir="
            )


def remove(folder: Path, patterns: Iterable[str]) -> None:
    """Remove files of a marked folder, and its folders that this leaves empty.

    Args:
        folder: run folder; without the mark nothing is removed.
        patterns: names or patterns of this module.
    """
    if not is_marked(folder):
        return
    for pattern in patterns:
        for file in [*folder.glob(pattern)]:
            file.unlink(missing_ok=True)
            for parent in file.relative_to(folder).parents[:-1]:
                with suppress(OSError):  # not empty
                    (folder / parent).rmdir()


def require_no_links(folder: Path) -> None:
    """Refuse links and special files under the names of a run folder, before any is opened.

    The folder itself may be reached through a link.

    Raises:
        UsageError: names the first one.
    """
    for path in _entries(folder):
        name = path.relative_to(folder)
        if path.is_symlink():
            raise UsageError(
                f"{path}: is a link, which is not followed; replace it by what it leads to"
            )
        if str(name) in _FOLDERS or str(name) in _TRACKERS:
            if not path.is_dir():
                raise UsageError(f"{path}: must be a folder; move it away")
        elif str(name) in _FILES and not path.is_file():
            raise UsageError(f"{path}: is not a regular file; move it away")


def _entries(folder: Path) -> Iterator[Path]:
    """What a run folder has under the program's names, and all that its folders hold."""
    names = {*_FILES, *_FOLDERS, *_TRACKERS}
    try:
        with os.scandir(folder) as entries:
            yield from (folder / entry.name for entry in entries if entry.name in names)
    except OSError:  # reported when a file is opened
        return
    for name in _FOLDERS:
        for path, folders, files in os.walk(folder / name):
            yield from (Path(path, each) for each in (*folders, *files))
