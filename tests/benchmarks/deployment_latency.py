"""Latency of one action of deployed policies at batch 1, from states and from pixels.

Untrained networks of the published and of the small sizes, one thread, no simulator step; one row
a size and runtime: ``load_policy`` (PyTorch eager), ``torch.export``, ONNX Runtime. Percentiles
over N actions of processor time, which other programs lengthen less than wall time::

    python tests/benchmarks/deployment_latency.py docs/results/deployment/latency.csv 500
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1]))
from support.untrained_runs import write_untrained_run

from ibrl_torchrl import load_policy
from ibrl_torchrl.deployment.export import export_policy
from ibrl_torchrl.deployment.load import load_run_policies

COLUMNS = ["observations", "networks", "runtime", "load_s", "p50_ms", "p95_ms", "p99_ms"]
STATES = ["algo.actor.hidden=[256,256,256]", "algo.critic.hidden=[256,256,256]"]
TASK = ["task=metaworld/box-close"]
SIZES = {
    ("states", "3 x 256, 3 critics"): STATES,
    ("states", "paper: 3 x 1024, 5 critics"): ["experiment=paper_states", *TASK],
    ("states", "flow, 10 steps"): [*STATES, "imitation.bc.policy=flow"],
    ("64 px", "ViT of one layer"): ["experiment=small_pixels", "algo=ibrl", *TASK],
    ("96 px", "paper: ViT, imitation by ResNet-18"): ["experiment=paper_pixels", *TASK],
}


def percentiles(act: Callable[[], object], number: int) -> list[str]:
    """p50, p95 and p99 in milliseconds."""
    for _ in range(20):
        act()
    times = []
    for _ in range(number):
        start = time.process_time()
        act()
        times.append(time.process_time() - start)
    return [f"{value:.2f}" for value in np.percentile(times, [50, 95, 99]) * 1e3]


def timed(load: Callable[[], Callable[[], object]], number: int) -> list[str]:
    """Seconds of loading, and percentiles of acting."""
    start = time.process_time()
    act = load()
    return [f"{time.process_time() - start:.1f}", *percentiles(act, number)]


def rows(run: Path, number: int) -> list[list[str]]:
    """Rows of one run folder by runtime."""
    import onnxruntime

    policies = load_run_policies(run)
    files = {suffix: run / f"policy{suffix}" for suffix in (".pt2", ".onnx")}
    for file in files.values():
        export_policy(policies, policies.default, file)
    generator = np.random.default_rng(0)
    shapes = load_policy(run).observation_shapes
    arrays = {
        key: generator.integers(0, 256, shape, np.uint8)
        if key.endswith("_image")
        else generator.normal(size=shape).astype(np.float32)
        for key, shape in shapes.items()
    }
    tensors = [torch.from_numpy(array) for array in arrays.values()]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1

    def eager() -> Callable[[], object]:
        policy = load_policy(run)
        return lambda: policy.act(arrays)

    def exported() -> Callable[[], object]:
        module = torch.export.load(files[".pt2"]).module()
        return lambda: module(*tensors)

    def onnx() -> Callable[[], object]:
        session = onnxruntime.InferenceSession(files[".onnx"], options)
        return lambda: session.run(None, arrays)

    runtimes = {"load_policy": eager, "torch.export": exported, "ONNX Runtime": onnx}
    with torch.no_grad():
        return [[name, *timed(load, number)] for name, load in runtimes.items()]


if __name__ == "__main__":
    out, number = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    table = []
    with tempfile.TemporaryDirectory() as temporary:
        for i, (size, settings) in enumerate(SIZES.items()):
            run = write_untrained_run(Path(temporary) / str(i), *settings, networks=())
            table += [[*size, *row] for row in rows(run, number)]
            print(*table[-3:], sep="\n", flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *table])
