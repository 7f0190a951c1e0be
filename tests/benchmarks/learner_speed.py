"""Learner speed, compared with matrix products and with the arithmetic of the original code.

    python tests/benchmarks/learner_speed.py [--csv FILE] [--seconds 20] [--settings NAME ...]

Measures per setting, alternating in one process with one thread: rounds of the learner (fixed
batch, no replay), for states also rounds of the original code's arithmetic, and peak throughput,
the fastest of products of square float32 matrices of 512 to 2048 rows. PyTorch's FLOP counter
counts matrix products and convolutions, two FLOPs per multiplication.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import torch
from pixel_parts import UPDATES, pixel_batch, pixel_learner, pixel_setting
from plain_ibrl import OriginalArithmetic
from sizes import (
    ACTION,
    SIZES,
    STATE,
    OneBatch,
    as_tensors,
    make_batch,
    make_learner,
    make_parts,
)
from torch.utils.flop_counter import FlopCounterMode

CPU = torch.device("cpu")
COLUMNS = [
    *("setting", "seconds_per_round", "gflop_per_round", "gflop_per_s", "peak_gflop_per_s"),
    *("share_of_peak", "original_seconds_per_round", "times_as_fast"),
]


def state_rounds(name):
    """Functions that run a round of the learner and one of the original arithmetic."""
    size = SIZES[name]
    learner, batch = make_learner(make_parts(size), size), make_batch(size["batch"])
    original = OriginalArithmetic(STATE, ACTION, hidden=size["hidden"], number=size["num_critics"])
    tensors = as_tensors(batch)

    def original_round():
        for _ in range(size["critic_updates"]):
            original.critic_update(tensors)
        original.actor_update(tensors)

    return lambda: learner.round(OneBatch(batch), CPU), original_round


def pixel_rounds(name):
    """Function that runs a round of the learner, and None."""
    setting = pixel_setting(name)
    learner, batch = pixel_learner(setting), pixel_batch(setting)

    def round_():
        learner.round(OneBatch(batch.exclude("features")), CPU)

    return round_, None


ROUNDS = {name: state_rounds for name in SIZES} | {name: pixel_rounds for name in UPDATES}


def product(size):
    """Function that multiplies two matrices, and its GFLOP."""
    left, right = torch.randn(2, size, size)
    return lambda: left @ right, 2 * size**3 / 1e9


def timed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(name, seconds):
    torch.manual_seed(0)
    learner, original = ROUNDS[name](name)
    with FlopCounterMode(display=False) as counter:
        learner()
    gflop_per_round = counter.get_total_flops() / 1e9
    products = [product(size) for size in (512, 1024, 2048)]
    times, peak = defaultdict(list), 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["learner"]) < 5:
        times["learner"].append(timed(learner))
        if original is not None:
            times["original"].append(timed(original))
        peak = max(peak, *(gflop / timed(multiply) for multiply, gflop in products))
    seconds_per_round = median(times["learner"])
    row = [
        *(name, seconds_per_round, gflop_per_round, gflop_per_round / seconds_per_round, peak),
        gflop_per_round / seconds_per_round / peak,
    ]
    if original is not None:
        original_seconds = median(times["original"])
        row += [original_seconds, original_seconds / seconds_per_round]
    return [row[0], *(f"{value:.4g}" for value in row[1:])]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--settings", nargs="+", choices=ROUNDS, default=[*ROUNDS])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("\t".join(COLUMNS))
    rows = []
    for name in options.settings:
        rows.append(measure(name, options.seconds))
        print("\t".join(rows[-1]), flush=True)
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
