"""What image replay costs and what there is, before anything is allocated."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ibrl_torchrl.data.replay.images import INDEX_BYTES, pool_size
from ibrl_torchrl.errors import UsageError


def image_replay_bytes(
    capacity: int, images: Mapping[str, Sequence[int]], numbers: int, frame_stack: int = 1
) -> int:
    """Bytes of a full buffer that stores each frame once (``DeduplicateImages``).

    Args:
        capacity: transitions kept.
        images: shape [C, H, W] of one uint8 frame, for each image key.
        numbers: bytes of everything else in a transition: low-dimensional observations twice (s
            and s'), the action and 23 for reward, flags, ``steps_to_next_obs`` and TorchRL's
            ``index``. The references to frames are added here.
        frame_stack: frames in an observation, default 1.
    """
    frame = sum(math.prod(shape) for shape in images.values())
    return pool_size(capacity, frame_stack) * frame + capacity * (numbers + INDEX_BYTES)


def require_memory(needed: int, available: int, remedy: str) -> None:
    """Refuse a replay buffer that would not fit.

    Args:
        needed: bytes it takes when full.
        available: bytes there are, from ``available_memory`` or ``available_disk``.
        remedy: what to change, such as ``"lower replay.capacity"``.

    Raises:
        UsageError: ``needed`` exceeds ``available``; the message has both in GB (1e9 bytes).
    """
    if needed > available:
        raise UsageError(
            f"replay needs {needed / 1e9:.2f} GB and {available / 1e9:.2f} GB are available; "
            f"{remedy}"
        )


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process can still use without swapping.

    The smaller of what the machine has and what the limits of this process's control groups
    (version 2: containers, jobs of a batch system) leave.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    return max(0, min([_machine(root), *_control_groups(root)]))


def available_disk(folder: str | Path) -> int:
    """Bytes free on the disk of ``folder``, which need not exist yet."""
    path = Path(folder).absolute()
    return shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free


def _machine(root: Path) -> int:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if "MemAvailable" in line)
    except (OSError, StopIteration):  # not Linux: all of its memory is the best that is known
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _control_groups(root: Path) -> Iterator[int]:
    """What each limit above this process leaves; files that the kernel may drop count as free."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        if not line.startswith("0::"):
            continue
        own = root / "sys/fs/cgroup" / line.removeprefix("0::").lstrip("/")
        for group in (own, *own.parents):
            try:
                limit = (group / "memory.max").read_text().strip()
                if limit == "max":
                    continue
                used = int((group / "memory.current").read_text())
                stat = dict(row.split() for row in (group / "memory.stat").read_text().splitlines())
            except OSError:  # not a group with memory accounting
                continue
            yield int(limit) - used + int(stat.get("inactive_file", 0))
