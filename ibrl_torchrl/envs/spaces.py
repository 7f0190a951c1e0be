"""Observation and action spaces of an environment, without the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torchrl.data import Bounded, Categorical, Composite, TensorSpec, Unbounded
from torchrl.envs import EnvBase, TransformedEnv

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool)
}
_MAX_NUMBERS = 100_000_000  # of an observation in a file


@dataclass(frozen=True)
class Spaces:
    """Spaces of an environment: what networks are built from, in place of the environment.

    Attributes:
        observation_spec: observations, after all transforms, such as stacks.
        action_spec: bounded actions float32 [A] that policies choose.
        state_parts: names and sizes of the parts of ``state``, in order; empty if it has none.
        native_action_spec: actions float32 [A] of the environment below its transforms, to whose
            bounds a transform such as ``ActionScaling`` maps those of ``action_spec`` linearly.

    Example:
        >>> from ibrl_torchrl.envs import make_env
        >>> spaces = Spaces.of(make_env("metaworld", "box-close"))
        >>> spaces.observation_spec["state"].shape, spaces.action_spec.shape
        (torch.Size([39]), torch.Size([4]))
    """

    observation_spec: Composite
    action_spec: Bounded
    state_parts: Mapping[str, int]
    native_action_spec: Bounded

    @classmethod
    def of(cls, env: EnvBase) -> Spaces:
        """Spaces of an environment."""
        base = env
        while isinstance(base, TransformedEnv):
            base = base.base_env
        same_shape = base.action_spec.shape == env.action_spec.shape
        return cls(
            env.observation_spec,
            env.action_spec,
            dict(getattr(base, "state_parts", {})),
            base.action_spec if same_shape else env.action_spec,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values that :meth:`from_dict` reads, for JSON."""
        return {
            "observation": {
                key: {"dtype": str(spec.dtype).removeprefix("torch."), "shape": [*spec.shape]}
                for key, spec in self.observation_spec.items()
                if not isinstance(spec, Composite)
            },
            "action": _bounds(self.action_spec),
            "native_action": _bounds(self.native_action_spec),
            "state_parts": dict(self.state_parts),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Spaces:
        """Spaces from plain values.

        Raises:
            AttributeError, KeyError, RuntimeError, TypeError, ValueError: they are not of
                :meth:`as_dict`.
        """
        action, native = _bounded(content["action"]), _bounded(content["native_action"])
        if action.shape != native.shape:
            raise ValueError("action and native_action have different sizes")
        observation = {key: _spec(**entry) for key, entry in content["observation"].items()}
        parts = {str(name): int(size) for name, size in content["state_parts"].items()}
        return cls(Composite(observation), action, parts, native)


def _bounds(spec: TensorSpec) -> dict[str, list[float]]:
    return {"low": spec.space.low.tolist(), "high": spec.space.high.tolist()}


def _bounded(bounds: Mapping[str, Any]) -> Bounded:
    low, high = (torch.tensor(bounds[name], dtype=torch.float32) for name in ("low", "high"))
    if low.ndim != 1 or not bool(((low < high) & (high - low).isfinite()).all()):
        raise ValueError("action bounds must be two lists of finite numbers, low < high")
    return Bounded(low, high, low.shape, dtype=torch.float32)


def _spec(dtype: str, shape: list[int]) -> TensorSpec:
    torch_dtype, size = _DTYPES[dtype], torch.Size(shape)
    if min(size, default=1) < 1 or size.numel() > _MAX_NUMBERS:
        raise ValueError(f"an observation has no shape {shape}")
    if torch_dtype == torch.uint8:
        return Bounded(0, 255, shape=size, dtype=torch_dtype)
    if torch_dtype == torch.bool:
        return Categorical(2, shape=size, dtype=torch_dtype)
    return Unbounded(size, dtype=torch_dtype)
