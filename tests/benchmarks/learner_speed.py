"""Learner speed, compared with matrix products and with the arithmetic of the original code.

    python tests/benchmarks/learner_speed.py [--csv FILE] [--seconds 20] [--settings NAME ...]

Measures per setting, alternating in one process with one thread: rounds of the learner (fixed
batch, no replay), eager and compiled, rounds of the original code's arithmetic, and peak
throughput, the fastest of products of square float32 matrices of 512 to 2048 rows. The original
runs the imitation policy on every batch, whose actions this library's replay buffer has from pixels
and in settings with ``_cached`` (``replay.cache_proposals=true``); a further column of pixels is
without. Compilation is in a column of its own, with PyTorch's cache as it was
found. PyTorch's FLOP counter counts matrix products and convolutions, two FLOPs per multiplication.
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
CACHED = "_cached"  # suffix of settings whose batches hold the imitation policy's actions
COLUMNS = [
    *("setting", "seconds_per_round", "gflop_per_round", "gflop_per_s", "peak_gflop_per_s"),
    *("share_of_peak", "original_seconds_per_round", "times_as_fast"),
    "times_as_fast_without_imitation",
    *("compilation_seconds", "compiled_seconds_per_round", "compiled_times_as_fast"),
]


def state_rounds(name):
    """Rounds of the learner and of the original arithmetic, as functions."""
    size, cached = SIZES[name.removesuffix(CACHED)], name.endswith(CACHED)
    batch = make_batch(size["batch"])
    learner = make_learner(make_parts(size, cached=cached), size)
    compiled = make_learner(make_parts(size, cached=cached), size, compile_mode="default")
    original = OriginalArithmetic(STATE, ACTION, hidden=size["hidden"], number=size["num_critics"])
    return {
        "learner": lambda: learner.round(OneBatch(batch), CPU),
        "compiled": lambda: compiled.round(OneBatch(batch), CPU),
        "original": plain_round(original, as_tensors(batch), size["critic_updates"]),
    }


def pixel_rounds(name):
    """Rounds of the learner and of the original arithmetic, with and without imitation policy."""
    setting = pixel_setting(name)
    agent, batch = pixel_agent(setting), pixel_batch(setting)
    learner = pixel_learner(setting, agent)
    compiled = pixel_learner(setting, pixel_agent(setting), compile_mode="default")
    seen = batch.exclude("features")
    updates, proprio = setting.algo.update.critic_updates, setting.algo.encoder.proprio
    original = OriginalPixels(agent.loss, agent.policies["bc"], proprio=proprio)
    without = OriginalPixels(agent.loss, proprio=proprio)
    return {
        "learner": lambda: learner.round(OneBatch(seen), CPU),
        "compiled": lambda: compiled.round(OneBatch(seen), CPU),
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


STATES = [f"{name}{suffix}" for name in SIZES for suffix in ("", CACHED)]
ROUNDS = {name: state_rounds for name in STATES} | {name: pixel_rounds for name in UPDATES}


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
    compilation = timed(rounds["compiled"])
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
    original, compiled = median(times["original"]), median(times["compiled"])
    row += [original, original / seconds_per_round]
    without = times["without_imitation"]
    row.append(median(without) / seconds_per_round if without else "")
    row += [compilation, compiled, original / compiled]
    return [value if isinstance(value, str) else f"{value:.4g}" for value in row]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--settings", nargs="+", choices=ROUNDS, default=[*SIZES, *UPDATES])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("\t".join(COLUMNS))
    rows = []
    for name in options.settings:
        torch.compiler.reset()  # one function compiles a few variants only
        rows.append(measure(name, options.seconds))
        print("\t".join(rows[-1]), flush=True)
    write_table(COLUMNS, rows, options.csv)


if __name__ == "__main__":
    main()
