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


def require_sparse(rewards: np.ndarray, where: str, name: str, remedy: str) -> np.ndarray:
    """Refuse rewards that are not [T], 1 at success and else 0.

    Args:
        rewards: rewards of an episode.
        where: file and episode, for messages.
        name: name of the array, for messages.
        remedy: what to do about other rewards, for messages.

    Returns:
        The rewards.

    Raises:
        UsageError: names the shape, or the first other number.
    """
    if rewards.ndim != 1:
        raise UsageError(f"{where}: {name} need shape [T], found {list(rewards.shape)}")
    dense = np.flatnonzero((rewards != 0) & (rewards != 1))
    if len(dense):
        raise UsageError(
            f"{where}: {name} must be 1 at success and else 0, found {rewards[dense[0]]:g} "
            f"at step {dense[0]}; {remedy}"
        )
    return rewards


# Bounds of actions unless a file states others.
_UNIT = (np.float32(-1.0), np.float32(1.0))


def require_actions(
    actions: np.ndarray,
    where: str,
    key: str,
    *,
    bounds: tuple[np.ndarray | np.float32, np.ndarray | np.float32] = _UNIT,
) -> np.ndarray:
    """Refuse actions that are not [T, A] within their bounds.

    Args:
        actions: actions of an episode.
        where: file and episode, for messages.
        key: name of the array, for messages.
        bounds: low and high, float32 [A] or []. Default -1 and 1.

    Returns:
        float32 [T, A].

    Raises:
        UsageError: names the shape, or the first number beyond.
    """
    if actions.ndim != 2 or len(actions) == 0:
        raise UsageError(f"{where}: {key} need shape [T, A], found {list(actions.shape)}")
    actions = actions.astype(np.float32)
    low, high = bounds
    if low.shape not in ((), actions.shape[1:]):
        raise UsageError(
            f"{where}: {key} have size {actions.shape[1]}, their action_bounds {low.size}; fix it"
        )
    outliers = np.argwhere((actions < low) | (actions > high))
    if len(outliers):
        step, dimension = outliers[0]
        low, high = (np.broadcast_to(each, actions.shape[1:])[dimension] for each in bounds)
        raise UsageError(
            f"{where}: {key} must lie in [{low:g}, {high:g}], found "
            f"{actions[step, dimension]:g} at step {step}, dimension {dimension}; rescale them"
        )
    return actions
