"""PyTorch's operations in a round of the learner, by its profiler.

    python tests/benchmarks/learner_operations.py [SETTING] [--csv FILE] [--rounds 30]

SETTING is one of ``learner_speed.py``, default the CPU-sized one. One row an operation, its own
time and calls in a round; Python between the operations is the rest of the round, measured without
the profiler, which makes every operation some microseconds longer.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from statistics import median

import torch
from learner_speed import ROUNDS, timed
from torch.profiler import ProfilerActivity, profile


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("setting", nargs="?", choices=ROUNDS, default="cpu")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    round_, _ = ROUNDS[options.setting](options.setting)
    for _ in range(5):
        round_()
    whole = 1e3 * median(timed(round_) for _ in range(options.rounds))
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(options.rounds):
            round_()
    rows = [["whole round", "", f"{whole:.3f}", "1.000"]]
    operations = profiler.key_averages()
    for operation in sorted(operations, key=lambda op: -op.self_cpu_time_total)[:25]:
        ms = operation.self_cpu_time_total / 1e3 / options.rounds
        calls = operation.count // options.rounds
        rows.append([operation.key, calls, f"{ms:.3f}", f"{ms / whole:.3f}"])
    head = ["operation", "calls", "ms", "share_of_round"]
    for row in [head, *rows]:
        print(*row, sep="\t")
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            csv.writer(file).writerows([head, *rows])


if __name__ == "__main__":
    main()
