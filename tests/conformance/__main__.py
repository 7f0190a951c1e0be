"""Command that runs all checks on an adapter: ``python -m conformance MODULE:CLASS``."""

from __future__ import annotations

import argparse
import csv
import importlib
import sys
from pathlib import Path

from conformance.checks import NOT_SUPPORTED, run_checks


def main(arguments: list[str]) -> int:
    """Print one line a check; returns the number of checks that failed."""
    parser = argparse.ArgumentParser(prog="python -m conformance")
    parser.add_argument("adapter", metavar="MODULE:CLASS")
    parser.add_argument("--csv", metavar="FILE", type=Path, help="write the results to a CSV file")
    parser.add_argument("--commit", default="", help="commit of the implementation, for the file")
    options = parser.parse_args(arguments)
    module, _, name = options.adapter.partition(":")
    if not name:
        parser.print_usage(sys.stderr)
        return 2
    results = run_checks(getattr(importlib.import_module(module), name))
    for check, message in results.items():
        print(f"{check:20} {message or 'passed'}")
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["implementation", "commit", "check", "result", "message"])
            for check, message in results.items():
                passed = message in ("", NOT_SUPPORTED)
                result = (message or "passed", "") if passed else ("failed", message)
                writer.writerow([options.adapter, options.commit, check, *result])
    return sum(message not in ("", NOT_SUPPORTED) for message in results.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
