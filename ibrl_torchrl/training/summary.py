"""Summary of a finished run, ``summary.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ibrl_torchrl.evaluation.evaluate import Evaluation
from ibrl_torchrl.keys import HYBRID
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
        hybrid's worst evaluation below the imitation policy, see :func:`dip_below_imitation`.
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


def dip_below_imitation(run: Run) -> dict[str, Any] | None:
    """Lowest evaluation of the hybrid during training below the best imitation policy's first one.

    Returns:
        ``policy``, the imitation policy, and its ``success``; ``frames`` and ``hybrid``, frame and
        success rate of the hybrid's lowest evaluation; ``depth``, their difference, 0 where the
        hybrid was never below. None without imitation policies or evaluations of the hybrid.
    """
    first = {name: run.curves[name][0].success for name in run.imitation if name in run.curves}
    curve = run.curves.get(HYBRID, ())
    if not first or not curve:
        return None
    policy = max(first, key=lambda name: first[name])
    lowest = min(curve, key=lambda point: point.success)
    return {
        "policy": policy,
        "success": first[policy],
        "frames": lowest.frames,
        "hybrid": lowest.success,
        "depth": round(max(0.0, first[policy] - lowest.success), 6),
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
