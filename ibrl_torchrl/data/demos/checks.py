"""Checks of arrays of unknown origin, in whichever format they are stored."""

from __future__ import annotations

import numpy as np

from ibrl_torchrl.errors import UsageError


def require_finite(array: np.ndarray, where: str) -> np.ndarray:
    """Refuse NaN and inf.

    Args:
        array: values of any shape.
        where: file, episode and name, for the message.

    Returns:
        The array.

    Raises:
        UsageError: names the first such value.
    """
    invalid = np.argwhere(~np.isfinite(array))
    if len(invalid):
        index = tuple(invalid[0].tolist())
        raise UsageError(
            f"{where} has {array[index]} at index {list(index)}; fix or remove the episode"
        )
    return array


def require_actions(actions: np.ndarray, where: str, key: str) -> np.ndarray:
    """Refuse actions that are not [T, A] in [-1, 1].

    Args:
        actions: actions of an episode.
        where: file and episode, for messages.
        key: name of the array, for messages.

    Returns:
        float32 [T, A].

    Raises:
        UsageError: names the shape, or the first number beyond.
    """
    if actions.ndim != 2 or len(actions) == 0:
        raise UsageError(f"{where}: {key} need shape [T, A], found {list(actions.shape)}")
    actions = actions.astype(np.float32)
    outliers = np.argwhere(np.abs(actions) > 1)
    if len(outliers):
        step, dimension = outliers[0]
        raise UsageError(
            f"{where}: {key} must lie in [-1, 1], found {actions[step, dimension]:g} "
            f"at step {step}, dimension {dimension}; rescale them"
        )
    return actions
