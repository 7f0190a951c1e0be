"""Updates a second of the learner on a GPU: eager, compiled, as CUDA graphs, and plain PyTorch.

    python tests/benchmarks/gpu_learner.py [SETTING ...] [--csv FILE] [--seconds 5] [--device cuda]
        [--variants VARIANT ...] [--batch 256] [--precision high]

A round is G critic updates, each on its own batch on the device, and one actor update; batches are
drawn before. Variants are measured one after another, for they would share compiled code and
memory; each has a row, one that fails too, with the error as its status. ``deviation`` is the
largest difference of the loss's tensors to those of the eager variant after the same
``WARMUP + CHECKED`` rounds with the same random numbers; ``ok`` is up to ``TOLERANCE``.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from cuda_graph import WARMUP, GraphedRound, Round, make_capturable
from plain_ibrl import PlainIBRL
from plain_pixels import PlainPixels
from sizes import ACTION, SIZES, STATE, as_tensors, make_batch, make_learner, make_parts
from tensordict import TensorDictBase

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.device_parts import build_parts

PIXELS = {"vit": "paper_pixels", "drq": "paper_pixels_basic"}
SETTINGS = [*(f"states-{name}" for name in SIZES), *PIXELS]
VARIANTS = ["plain", "eager", "plain-graph", "graph", "compiled", "compiled-graph"]
COLUMNS = [
    *("setting", "variant", "device", "precision", "batch", "critic_updates_per_round"),
    *("ms_per_round", "critic_updates_per_s", "seconds_to_start", "deviation", "status"),
]
CHECKED, TOLERANCE = 3, 1e-4


@dataclass
class Subject:
    """What is measured.

    Attributes:
        round: runs a round on its batches.
        optimizers: its optimisers.
        state: its tensors, to compare.
    """

    round: Round
    optimizers: list[torch.optim.Optimizer]
    state: Callable[[], list[torch.Tensor]] = field(default=list)


def learner_subject(learner: Any) -> Subject:
    """Rounds of a :class:`~ibrl_torchrl.training.learner.Learner`, without replay."""

    def round_(batches: Sequence[TensorDictBase]) -> object:
        outputs = [learner.update("loss_qvalue", batch) for batch in batches]
        return [*outputs, learner.update("loss_actor", batches[-1])]

    return Subject(
        round_,
        [*learner.optimizers.values()],
        lambda: [*learner.loss.parameters(), *learner.loss.buffers()],
    )


def plain_subject(plain: Any, convert: Callable[[TensorDictBase], Any]) -> Subject:
    """Rounds in plain PyTorch."""

    def round_(batches: Sequence[TensorDictBase]) -> object:
        converted = [convert(batch) for batch in batches]
        outputs = [plain.critic_update(batch) for batch in converted]
        return [*outputs, plain.actor_update(converted[-1])]

    return Subject(round_, [plain.critic_optimizer, plain.actor_optimizer])


def state_subject(name: str, kind: str, batch: int, device: torch.device):
    """Subject and batches of a round from states."""
    size = SIZES[name]
    batches = [make_batch(batch).to(device) for _ in range(size["critic_updates"])]
    if kind == "plain":
        plain = PlainIBRL(STATE, ACTION, hidden=size["hidden"], number=size["num_critics"])
        return plain_subject(plain.to(device), as_tensors), batches
    parts = [part.to(device) for part in make_parts(size)]
    compiled = "default" if kind == "compiled" else None
    return learner_subject(make_learner(parts, size, compile_mode=compiled)), batches


def pixel_subject(name: str, kind: str, batch: int, device: torch.device, *settings: str):
    """Subject and batches of a round from pixels, of the paper's networks."""
    settings = (
        *(f"experiment={PIXELS[name]}", f"replay.batch_size={batch}", "replay.capacity=100"),
        *settings,
        *(["compile=default"] if kind == "compiled" else []),
    )
    with TemporaryDirectory() as folder:
        parts = build_parts(settings, device, Path(folder), image_size=96)
        updates = parts.config.algo.update.critic_updates
        batches = [parts.replay.sample().to(device) for _ in range(updates)]
    if kind == "plain":
        plain = PlainPixels(parts.agent.loss, proprio=parts.config.algo.encoder.proprio)
        return plain_subject(plain, lambda batch: batch), batches
    return learner_subject(parts.learner), batches


def make_subject(setting: str, kind: str, batch: int, device: torch.device):
    """Subject of a setting and the batches of a round."""
    torch.manual_seed(0)
    if setting in PIXELS:
        return pixel_subject(setting, kind, batch, device)
    return state_subject(setting.removeprefix("states-"), kind, batch, device)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def repeated(round_: Round, batches: Sequence[TensorDictBase], rounds: int) -> None:
    for _ in range(rounds):
        round_([batch.copy() for batch in batches])


def started(subject: Subject, batches: Sequence[TensorDictBase], graph: bool) -> Round:
    """The round, warmed up: compiled, captured."""
    torch.manual_seed(1)
    if graph:
        make_capturable(subject.optimizers)
        return GraphedRound(subject.round, batches)
    repeated(subject.round, batches, WARMUP)
    return subject.round


def checked_state(subject: Subject, round_: Round, batches: Sequence[TensorDictBase]):
    """Tensors after ``CHECKED`` rounds, on the CPU."""
    torch.manual_seed(2)
    repeated(round_, batches, CHECKED)
    return [tensor.detach().cpu().clone() for tensor in subject.state()]


def measure(setting: str, variant: str, options: argparse.Namespace, reference: list) -> list:
    """Row of a variant; the eager one fills ``reference`` with its tensors."""
    device = torch.device(options.device)
    graph = variant.endswith("graph")
    kind = variant.removesuffix("-graph").replace("graph", "eager")
    if graph and device.type != "cuda":
        raise RuntimeError("skipped: CUDA graphs need a CUDA device")
    start = time.perf_counter()
    subject, batches = make_subject(setting, kind, options.batch, device)
    round_ = started(subject, batches, graph)
    synchronize(device)
    seconds_to_start = time.perf_counter() - start
    state = checked_state(subject, round_, batches)
    if variant == "eager":
        reference[:] = state
    deviation: float | str = ""
    if state and reference:
        pairs = zip(state, reference, strict=True)
        deviation = max(((one - two).abs().max().item() for one, two in pairs if one.numel()))
    times = []
    end = time.perf_counter() + options.seconds
    while time.perf_counter() < end or len(times) < 3:
        synchronize(device)
        start = time.perf_counter()
        repeated(round_, batches, options.rounds)
        synchronize(device)
        times.append((time.perf_counter() - start) / options.rounds)
    seconds = median(times)
    status = "ok" if deviation == "" or deviation <= TOLERANCE else "differs from eager"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return [
        *(setting, variant, name, options.precision, options.batch, len(batches)),
        *(f"{1e3 * seconds:.4g}", f"{len(batches) / seconds:.4g}", f"{seconds_to_start:.1f}"),
        *(deviation if deviation == "" else f"{deviation:.2g}", status),
    ]


def main() -> int:
    """Measure all settings and variants; returns 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*", default=SETTINGS, help=", ".join(SETTINGS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=10, help="rounds between synchronisations")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", choices=("highest", "high"), default="high")
    options = parser.parse_args()
    if unknown := {*options.settings} - {*SETTINGS}:
        parser.error(f"settings {sorted(unknown)} are not among {SETTINGS}")
    torch.set_float32_matmul_precision(options.precision)
    failed = False
    for setting in options.settings:
        reference: list[torch.Tensor] = []
        for variant in options.variants:
            try:
                row = measure(setting, variant, options, reference)
            except Exception as error:  # one variant must not cost the others
                skipped = str(error).startswith("skipped")
                failed |= not skipped
                if not skipped:
                    traceback.print_exc()
                status = str(error).splitlines()[0][:200] or type(error).__name__
                row = [setting, variant, options.device, options.precision, options.batch]
                row += [""] * (len(COLUMNS) - len(row) - 1) + [status]
            write(options.csv, row)
            torch.compiler.reset()
    return int(failed)


def write(path: Path | None, row: list) -> None:
    """Print a row and append it to a file at once, so that a time limit costs one row."""
    print("\t".join(map(str, row)), flush=True)
    if path is not None:
        new = not path.exists()
        with path.open("a", newline="") as file:
            csv.writer(file).writerows([COLUMNS, row] if new else [row])


if __name__ == "__main__":
    sys.exit(main())
