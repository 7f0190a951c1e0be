"""Profile of a round of the learner by PyTorch operations.

    python tests/benchmarks/learner_operations.py [SETTING] [--csv FILE] [--rounds 30]

SETTING is one of ``learner_speed.py``, default ``cpu``. A row is an operation, with its self CPU
time and calls per round. The round is measured without the profiler, which adds some microseconds
to an operation; the difference from the sum of operations is time in Python.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

import torch
from learner_speed import ROUNDS, timed
from tables import report
from torch.profiler import ProfilerActivity, profile


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("setting", nargs="?", choices=ROUNDS, default="cpu")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    run_round = ROUNDS[options.setting](options.setting)["learner"]
    for _ in range(5):
        run_round()
    round_ms = 1e3 * median(timed(run_round) for _ in range(options.rounds))
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(options.rounds):
            run_round()
    rows = [["whole round", "", f"{round_ms:.3f}", "1.000"]]
    operations = profiler.key_averages()
    for operation in sorted(operations, key=lambda op: -op.self_cpu_time_total)[:25]:
        ms = operation.self_cpu_time_total / 1e3 / options.rounds
        calls = operation.count // options.rounds
        rows.append([operation.key, calls, f"{ms:.3f}", f"{ms / round_ms:.3f}"])
    header = ["operation", "calls", "ms", "share_of_round"]
    report(header, rows, options.csv)


if __name__ == "__main__":
    main()
