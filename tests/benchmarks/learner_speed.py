"""Learner speed, compared with matrix products and with the arithmetic of the original code.

    python tests/benchmarks/learner_speed.py [--csv FILE] [--seconds 20] [--settings NAME ...]

Measures per setting, alternating in one process with one thread: rounds of the learner (fixed
batch, no replay), rounds of the original code's arithmetic, and peak throughput, the fastest of
products of square float32 matrices of 512 to 2048 rows. From pixels the original runs the imitation
policy on every batch, whose actions this library's replay buffer has; a further column is without.
PyTorch's FLOP counter counts matrix products and convolutions, two FLOPs per multiplication.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import torch
from pixel_parts import UPDATES, pixel_agent, pixel_batch, pixel_learner, pixel_setting
from plain_ibrl import OriginalArithmetic
from plain_pixels import OriginalPixels
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
from tables import write_table
from torch.utils.flop_counter import FlopCounterMode

CPU = torch.device("cpu")
COLUMNS = [
    *("setting", "seconds_per_round", "gflop_per_round", "gflop_per_s", "peak_gflop_per_s"),
    *("share_of_peak", "original_seconds_per_round", "times_as_fast"),
    "times_as_fast_without_imitation",
]


def state_rounds(name):
    """Rounds of the learner and of the original arithmetic, as functions."""
    size = SIZES[name]
    learner, batch = make_learner(make_parts(size), size), make_batch(size["batch"])
    original = OriginalArithmetic(STATE, ACTION, hidden=size["hidden"], number=size["num_critics"])
    return {
        "learner": lambda: learner.round(OneBatch(batch), CPU),
        "original": plain_round(original, as_tensors(batch), size["critic_updates"]),
    }


def pixel_rounds(name):
    """Rounds of the learner and of the original arithmetic, with and without imitation policy."""
    setting = pixel_setting(name)
    agent, batch = pixel_agent(setting), pixel_batch(setting)
    learner = pixel_learner(setting, agent)
    updates, proprio = setting.algo.update.critic_updates, setting.algo.encoder.proprio
    original = OriginalPixels(agent.loss, agent.policies["bc"], proprio=proprio)
    without = OriginalPixels(agent.loss, proprio=proprio)
    return {
        "learner": lambda: learner.round(OneBatch(batch.exclude("features")), CPU),
        "original": plain_round(original, batch, updates),
        "without_imitation": plain_round(without, batch, updates),
    }


def plain_round(updates, batch, critic_updates):
    """Function that runs a round of updates of a baseline."""

    def run():
        for _ in range(critic_updates):
            updates.critic_update(batch)
        updates.actor_update(batch)

    return run


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
    rounds = ROUNDS[name](name)
    with FlopCounterMode(display=False) as counter:
        rounds["learner"]()
    gflop_per_round = counter.get_total_flops() / 1e9
    products = [product(size) for size in (512, 1024, 2048)]
    times, peak = defaultdict(list), 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["learner"]) < 5:
        for kind, function in rounds.items():
            times[kind].append(timed(function))
        peak = max(peak, *(gflop / timed(multiply) for multiply, gflop in products))
    seconds_per_round = median(times["learner"])
    row = [
        *(name, seconds_per_round, gflop_per_round, gflop_per_round / seconds_per_round, peak),
        gflop_per_round / seconds_per_round / peak,
    ]
    row.append(median(times["original"]))
    row += [median(times[kind]) / seconds_per_round for kind in rounds if kind != "learner"]
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
    write_table(COLUMNS, rows, options.csv)


if __name__ == "__main__":
    main()
