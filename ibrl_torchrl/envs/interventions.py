"""Interventions in environments of Gymnasium: what their wrappers report in ``info``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ibrl_torchrl.errors import UsageError, brief

_FLAG, _ACTION = "is_intervention", "teleop_action"  # of every step, gym-hil
_RARE_ACTION = "intervene_action"  # of the steps in which a person acts alone, HIL-SERL


def reports_interventions(info: Mapping[str, Any]) -> bool:
    """Whether the ``info`` of a step is that of an environment that reports interventions."""
    return _FLAG in info or _RARE_ACTION in info


def intervening_action(info: Mapping[str, Any], size: int) -> np.ndarray | None:
    """Action that was executed in place of the policy's.

    Args:
        info: that of a step. An intervention is ``info["is_intervention"]`` with the action under
            ``"teleop_action"`` (gym-hil), or ``"intervene_action"`` (HIL-SERL, arXiv 2410.21845).
        size: number of its entries A.

    Returns:
        float [A] within the bounds of the environment, which are not checked; None where the policy
        acted.

    Raises:
        UsageError: the action is missing, of another shape, or not finite.
    """
    if _RARE_ACTION in info:
        key = _RARE_ACTION
    elif info.get(_FLAG, False):
        key = _ACTION
    else:
        return None
    try:
        action = np.asarray(info.get(key), np.float64)
    except (TypeError, ValueError):
        action = np.full(0, np.nan)
    if action.shape != (size,) or not np.isfinite(action).all():
        raise UsageError(
            f"the info of a step with an intervention has {key}={brief(info.get(key))}, must be "
            f"{size} finite numbers; let the environment's wrapper report the executed action"
        )
    return action
