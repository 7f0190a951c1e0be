"""Observations from arrays: checks by name, stacks of the last steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ibrl_torchrl.builders.env import ObservationStack
from ibrl_torchrl.envs.spaces import Spaces


class _Entry(NamedTuple):
    """Observation of one step: its shape and dtype, and the stack that it is part of."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    stack: ObservationStack | None


class ObservationReader:
    """Observations of a policy from arrays of single steps.

    Stacks what the run's environment stacked, as ``CatFrames`` does.

    Args:
        keys: keys that the policy reads.
        spaces: spaces of the run's environment, with stacked observations.
        stacks: its stacks.
    """

    def __init__(
        self, keys: Sequence[str], spaces: Spaces, stacks: Sequence[ObservationStack]
    ) -> None:
        stack_of = {key: stack for stack in stacks for key in stack.keys}
        self._entries: dict[str, _Entry] = {}
        for key in keys:
            spec, stack = spaces.observation_spec[key], stack_of.get(key)
            shape = [*spec.shape]
            if stack is not None:
                shape[stack.dim] //= stack.size
            self._entries[key] = _Entry(tuple(shape), spec.dtype, stack)
        self._steps: dict[str, deque[Tensor]] = {}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array that is read, by its key."""
        return {key: entry.shape for key, entry in self._entries.items()}

    def reset(self) -> None:
        """Forget the steps of an episode."""
        self._steps.clear()

    def read(self, observation: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """Observation of the current step, stacked with earlier ones.

        Args:
            observation: arrays by key; others than the policy's are ignored.

        Raises:
            ValueError: an array is missing, of another shape or dtype, or not finite; names it.
        """
        current = {
            key: _checked(key, entry, observation) for key, entry in self._entries.items()
        }  # all of them, before the first is remembered
        return {key: self._stacked(key, value) for key, value in current.items()}

    def _stacked(self, key: str, value: Tensor) -> Tensor:
        stack = self._entries[key].stack
        if stack is None:
            return value
        if key not in self._steps:
            before = value if stack.padding == "same" else torch.zeros_like(value)
            self._steps[key] = deque([before] * stack.size, maxlen=stack.size)
        self._steps[key].append(value)
        return torch.cat([*self._steps[key]], stack.dim)


def _checked(key: str, entry: _Entry, observation: Mapping[str, np.ndarray]) -> Tensor:
    """One array as a tensor of the run's dtype, a copy.

    Raises:
        ValueError: it is missing, of another shape or dtype, or not finite.
    """
    if key not in observation:
        raise ValueError(f"observation lacks {key!r}; it has {sorted(observation)}")
    array = np.asarray(observation[key])
    if array.shape != entry.shape:
        raise ValueError(
            f"observation {key!r} has shape {[*array.shape]}, the run's has {[*entry.shape]}"
            + (" (channels first)" if entry.dtype == torch.uint8 else "")
        )
    if entry.dtype == torch.uint8 and array.dtype != np.uint8:
        raise ValueError(f"observation {key!r} is {array.dtype}, the run's is uint8, 0 to 255")
    if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
        raise ValueError(f"observation {key!r} must be finite numbers")
    return torch.tensor(array, dtype=entry.dtype)
