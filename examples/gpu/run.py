"""Check and measure the package on a GPU: one command, each step timed, a failure costs one step.

    python examples/gpu/run.py [--out FOLDER] [--steps NAME ...] [--skip NAME ...] [--limit SECONDS]
        [--device cuda] [--smallest]

Without ``--steps``, all but ``pixels`` run, in 9 minutes at most. ``--out`` is by default ``$OUT``,
or ``runs/gpu``; it gets ``steps.csv`` (step, status, seconds), ``log.txt`` (the output of all
steps), ``learner.csv`` and what else steps write. ``--smallest`` runs everything in the size of a
test, as on a CPU: ``--device cpu --smallest``.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "tests" / "benchmarks"
ENVIRONMENT = """
import json, platform, sys, torch, tensordict, torchrl
devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"python": platform.python_version(), "torch": torch.__version__,
                  "torchrl": torchrl.__version__, "tensordict": tensordict.__version__,
                  "devices": devices}))
sys.exit(sys.argv[1].startswith("cuda") and not devices)
"""


@dataclass(frozen=True)
class Options:
    """What all steps read.

    Attributes:
        out: folder of the results.
        device: device of PyTorch.
        smallest: run in the size of a test.
    """

    out: Path
    device: str
    smallest: bool


@dataclass(frozen=True)
class Step:
    """Step of the kit.

    Attributes:
        command: arguments of Python, from the options.
        limit: seconds after which it is killed.
        default: runs unless it is skipped.
    """

    command: Callable[[Options], list[str]]
    limit: float
    default: bool = True


def tests(options: Options) -> list[str]:
    """Tests marked ``gpu``, of which the smallest size is one file."""
    folder = ROOT / "tests" / "gpu"
    path = folder / "test_parts.py" if options.smallest else folder
    arguments = ["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", str(path)]
    return [*arguments, f"--junitxml={options.out / 'tests.xml'}"]


def learner(setting: str) -> Callable[[Options], list[str]]:
    """Updates a second in one setting."""

    def command(options: Options) -> list[str]:
        smallest = [
            "--seconds=0",
            "--rounds=1",
            "--batch=2",
            "--variants",
            "plain",
            "eager",
            "graph",
        ]
        return [
            *(str(BENCHMARKS / "gpu_learner.py"), setting, "--device", options.device),
            *("--csv", str(options.out / "learner.csv"), *(smallest if options.smallest else [])),
        ]

    return command


def pixels(options: Options) -> list[str]:
    """The paper's pixel setting on one task, with rendering workers and a shorter imitation."""
    smallest = [
        *("imitation.bc.steps=2", "imitation.bc.batch_size=4", "replay.batch_size=2"),
        *("replay.capacity=500", "algo.warmup.episodes=1", "collector.workers=1"),
        *("task.num_init_states=1", "demos.episodes=1", "total_frames=150"),
        *("eval.every=100", "eval.episodes=1", "eval.final_episodes=1", "log.every=1"),
        *("encoder@imitation.bc.encoder=drq", "imitation.bc.network.hidden=[8]"),
    ]
    full = [
        *("imitation.bc.steps=3000", "collector.workers=12", "algo.warmup.episodes=24"),
        *("total_frames=20000", "eval.every=2500", "eval.episodes=12", "checkpoint_every=2500"),
    ]
    return [
        *("-m", "ibrl_torchrl", "train", "experiment=paper_pixels_basic"),
        *("task=metaworld/assembly", f"device={options.device}", "imitation.bc.eval_every=null"),
        *("matmul_precision=high", f"run_dir={options.out / 'pixels'}"),
        *(smallest if options.smallest else full),
    ]


STEPS = {
    "environment": Step(lambda options: ["-c", ENVIRONMENT, options.device], 30),
    "tests": Step(tests, 150),
    "states-cpu": Step(learner("states-cpu"), 80),
    "states-paper": Step(learner("states-paper"), 80),
    "drq": Step(learner("drq"), 90),
    "vit": Step(learner("vit"), 110),
    "pixels": Step(pixels, 590, default=False),
}


def run(name: str, options: Options, limit: float) -> tuple[str, float]:
    """Run a step in a process of its own.

    Args:
        name: name of the step.
        options: options of all steps.
        limit: seconds after which it and its child processes are killed.

    Returns:
        ``"ok"``, ``"failed (EXIT CODE)"`` or ``"timeout"``, and the seconds that it took.
    """
    environment = {
        "MUJOCO_GL": "egl",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    # CUDA is the choice of the tests themselves, where there is one.
    if not options.device.startswith("cuda"):
        environment["IBRL_TEST_DEVICE"] = options.device
    start = time.perf_counter()
    log = options.out / "log.txt"
    with log.open("a") as file:
        print(f"=== {name}", file=file, flush=True)
        process = subprocess.Popen(
            [sys.executable, *STEPS[name].command(options)],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=limit)
            status = "ok" if code == 0 else f"failed ({code})"
        except subprocess.TimeoutExpired:
            status = "timeout"
        finally:
            # Workers, too: the step has a process group of its own.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return status, time.perf_counter() - start


def main() -> int:
    """Run the steps; returns the number of those that did not end well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "runs/gpu")))
    parser.add_argument("--steps", nargs="+", choices=STEPS)
    parser.add_argument("--skip", nargs="+", choices=STEPS, default=[])
    parser.add_argument("--limit", type=float, help="seconds of each step, instead of its own")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--smallest", action="store_true")
    chosen = parser.parse_args()
    options = Options(chosen.out.resolve(), chosen.device, chosen.smallest)
    options.out.mkdir(parents=True, exist_ok=True)
    names = chosen.steps or [name for name, step in STEPS.items() if step.default]
    bad = 0
    with (options.out / "steps.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["step", "status", "seconds"])
        for name in names:
            status, seconds = "skipped", 0.0
            if name not in chosen.skip:
                status, seconds = run(name, options, chosen.limit or STEPS[name].limit)
                bad += status != "ok"
            table.writerow([name, status, f"{seconds:.1f}"])
            file.flush()
            print(f"{name:<14} {status:<12} {seconds:6.1f} s", flush=True)
    results = options.out / "learner.csv"
    if results.exists():
        print(results.read_text())
    return bad


if __name__ == "__main__":
    sys.exit(main())
