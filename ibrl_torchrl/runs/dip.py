"""Dip of the hybrid below its imitation policy during training."""

from __future__ import annotations

from typing import Any

from ibrl_torchrl.keys import HYBRID
from ibrl_torchrl.runs.reader import Run


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
