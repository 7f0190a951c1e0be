"""A real disk of a few megabytes, for tests of full disks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'


def on_small_disk(folder: Path, size: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code with a temporary disk mounted on a folder; skips where that is refused.

    Args:
        folder: existing folder, only within the process the disk's root.
        size: size of the disk, such as ``"2m"``.
        code: source, which finds the folder in ``sys.argv[1]``.
    """
    mounted = ["unshare", "-rm", "sh", "-c", _MOUNT, "sh", size, str(folder)]
    try:
        possible = subprocess.run([*mounted, "true"], capture_output=True).returncode == 0
    except OSError:
        possible = False
    if not possible:
        pytest.skip("mounting a disk in a user namespace is not permitted")
    return subprocess.run(
        [*mounted, sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "RL_LOGGING_LEVEL": "ERROR"},  # TorchRL logs to standard output
    )
