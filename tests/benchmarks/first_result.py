"""Seconds from a command to its first line, its first results and its end.

    python tests/benchmarks/first_result.py [--csv FILE] [SETTING ...]

Runs ``ibrl train`` with the settings, such as ``total_frames=3000``, in a folder that is removed,
and imports of this package and of what it builds on in processes of their own. The first run after
an installation also writes Python's bytecode; repeat it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tables import report

COLUMNS = ["event", "seconds"]
IMPORTS = ["torch", "torchrl", "ibrl_torchrl.training.pipeline"]
REPEATS = 5
# Event: how its first line begins.
EVENTS = {
    "first line": "task:",
    "libraries imported": "replay:",
    "imitation policy evaluated": "frame       0",
    "first evaluation": "frame ",
    "final evaluation": "policy ",
}


def import_seconds(module: str) -> float:
    """Median seconds of importing a module in a fresh process."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"

    def once() -> float:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return float(done.stdout.splitlines()[-1])

    return median(once() for _ in range(REPEATS))


def training_events(settings: list[str], folder: Path) -> Iterator[tuple[str, float]]:
    """Events of a training run, with seconds since the command."""
    command = [sys.executable, "-u", "-m", "ibrl_torchrl", "train", f"run_dir={folder}"]
    start = time.perf_counter()
    pending = dict(EVENTS)
    with subprocess.Popen(
        [*command, *settings], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            seconds = time.perf_counter() - start
            found = next((name for name, head in pending.items() if line.startswith(head)), None)
            if found is not None:
                del pending[found]
                yield found, seconds
    if process.returncode:
        raise SystemExit(process.returncode)
    yield "end", time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path)
    parser.add_argument("settings", nargs="*", metavar="SETTING")
    options = parser.parse_args()
    rows = [[f"import {module}", import_seconds(module)] for module in IMPORTS]
    with tempfile.TemporaryDirectory() as folder:
        rows += map(list, training_events(options.settings, Path(folder) / "run"))
    rows = [[name, f"{seconds:.1f}"] for name, seconds in rows]
    report(COLUMNS, rows, options.csv)


if __name__ == "__main__":
    main()
