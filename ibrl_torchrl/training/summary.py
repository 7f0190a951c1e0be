"""Summary of a finished run, ``summary.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ibrl_torchrl.evaluation.evaluate import Evaluation
from ibrl_torchrl.runs.dip import dip_below_imitation
from ibrl_torchrl.runs.reader import Run
from ibrl_torchrl.training.loop import Counters


def run_summary(
    run: Run, results: Mapping[str, Evaluation], counters: Counters, *, seconds: float
) -> dict[str, Any]:
    """Summary of a run as plain values.

    Args:
        run: settings, provenance and evaluations during training.
        results: final evaluations by policy.
        counters: progress at the end.
        seconds: wall time of the run.

    Returns:
        Content of ``summary.json``. ``final`` has success rate, 95 % Wilson interval, number of
        episodes and mean length of the successes (None without one) of each policy; ``dip`` the
        hybrid's worst evaluation below the imitation policy, see
        :func:`~ibrl_torchrl.runs.dip.dip_below_imitation`.
    """
    return {
        "task": run.task,
        "method": run.method,
        "seed": run.seed,
        "frames": counters.frames,
        "warmup_frames": counters.warmup_frames,
        "rounds": counters.rounds,
        "final": {name: _statistics(result) for name, result in results.items()},
        "dip": dip_below_imitation(run),
        "minutes": round(seconds / 60, 2),
        "versions": run.provenance.get("versions", {}),
        "commit": run.provenance.get("commit"),
    }


def _statistics(result: Evaluation) -> dict[str, Any]:
    low, high = result.interval
    return {
        "success": result.success_rate,
        "success_low": round(low, 6),
        "success_high": round(high, 6),
        "episodes": len(result.episodes),
        "success_length": None if math.isnan(result.success_length) else result.success_length,
    }
