"""Access to the simulator below an environment's transforms."""

from __future__ import annotations

from typing import cast

from torchrl.envs import EnvBase

from ibrl_torchrl.envs.base import SparseRewardEnv


def unwrapped(env: EnvBase) -> SparseRewardEnv:
    """The simulator environment below all transforms, as Gymnasium's ``Env.unwrapped``."""
    return cast(SparseRewardEnv, getattr(env, "base_env", env))
