"""Command that runs all checks on an adapter: ``python -m conformance MODULE:CLASS``."""

from __future__ import annotations

import importlib
import sys

from conformance.checks import NOT_SUPPORTED, run_checks


def main(arguments: list[str]) -> int:
    """Print one line a check; returns the number of checks that failed."""
    if len(arguments) != 1 or ":" not in arguments[0]:
        print("usage: python -m conformance MODULE:CLASS", file=sys.stderr)
        return 2
    module, _, name = arguments[0].partition(":")
    results = run_checks(getattr(importlib.import_module(module), name))
    for check, message in results.items():
        print(f"{check:20} {message or 'passed'}")
    return sum(message not in ("", NOT_SUPPORTED) for message in results.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
