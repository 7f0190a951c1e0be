"""Memory estimate of image replay, and available memory, before anything is allocated."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ibrl_torchrl.data.replay.images import INDEX_BYTES, pool_size
from ibrl_torchrl.errors import UsageError


def image_replay_bytes(
    capacity: int,
    images: Mapping[str, Sequence[int]],
    numbers: int,
    frame_stack: int = 1,
    *,
    parts: bool = False,
) -> int:
    """Estimate the bytes of a full buffer with deduplicated images (``DeduplicateImages``).

    Args:
        capacity: maximum number of transitions.
        images: shape [C, H, W] of one uint8 frame, for each image key.
        numbers: bytes of everything else in a transition: low-dimensional observations twice (s
            and s'), the action and 23 for reward, flags, ``steps_to_next_obs`` and TorchRL's
            ``index``. Frame indices are added here.
        frame_stack: frames in an observation, default 1.
        parts: episodes may be parts of longer ones. Default False.

    Example:
        >>> from ibrl_torchrl.data.replay.footprint import image_replay_bytes
        >>> round(image_replay_bytes(100_000, {"corner2_image": (3, 96, 96)}, 0) / 1e9, 2)
        3.04
    """
    frame = sum(math.prod(shape) for shape in images.values())
    frames = pool_size(capacity, frame_stack, parts=parts)
    return frames * frame + capacity * (numbers + INDEX_BYTES)


def require_memory(needed: int, available: int, remedy: str) -> None:
    """Check that a replay buffer fits.

    Args:
        needed: bytes of the full buffer.
        available: bytes from ``available_memory`` or ``available_disk``.
        remedy: setting to change, such as ``"lower replay.capacity"``.

    Raises:
        UsageError: ``needed`` exceeds ``available``; the message states both in GB (1e9 bytes).
    """
    if needed > available:
        raise UsageError(
            f"replay needs {needed / 1e9:.2f} GB and {available / 1e9:.2f} GB are available; "
            f"{remedy}"
        )


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process can still allocate without swapping.

    The smallest of the machine's available memory and the remainders of this process's control
    group limits (version 2: containers, jobs of a batch system).

    Args:
        root: folder of ``proc`` and ``sys``.
    """
    return max(0, min([_machine_bytes(root), *_control_group_bytes(root)]))


def available_disk(folder: str | Path) -> int:
    """Return the bytes that new files in ``folder``, which need not exist yet, can take.

    The free bytes of its disk, and those of the files that it already holds: memory maps of an
    interrupted run, which are replaced.
    """
    path = Path(folder).absolute()
    free = shutil.disk_usage(next(part for part in (path, *path.parents) if part.exists())).free
    held = (Path(root, name).lstat() for root, _, names in os.walk(path) for name in names)
    return free + sum(512 * status.st_blocks for status in held)  # st_blocks counts 512 bytes


def _machine_bytes(root: Path) -> int:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if "MemAvailable" in line)
    except (OSError, StopIteration):  # not Linux: total memory instead
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _control_group_bytes(root: Path) -> Iterator[int]:
    """Remainder of each memory limit; inactive page cache, which the kernel may drop, is free."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        if not line.startswith("0::"):
            continue
        innermost = root / "sys/fs/cgroup" / line.removeprefix("0::").lstrip("/")
        for group in (innermost, *innermost.parents):
            try:
                limit = (group / "memory.max").read_text().strip()
                if limit == "max":
                    continue
                used = int((group / "memory.current").read_text())
                stat = dict(row.split() for row in (group / "memory.stat").read_text().splitlines())
            except OSError:  # no memory accounting in this group
                continue
            yield int(limit) - used + int(stat.get("inactive_file", 0))
