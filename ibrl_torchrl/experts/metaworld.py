"""Scripted policies of Meta-World tasks."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

from ibrl_torchrl.errors import require_extra, unknown_name
from ibrl_torchrl.keys import ACTION, STATE


class MetaWorldExpert(TensorDictModuleBase):
    """Scripted policy that Meta-World provides for a task.

    Reads ``state``, float32 [*, 39] including the goal, and writes ``action``, float32 [*, 4] in
    [-1, 1]. Actions depend on the current state alone. The noise has a separate generator; the
    global random states are not used.

    Args:
        task: name of the task, ``"box-close"`` or ``"box-close-v3"``.
        noise: standard deviation of the Gaussian noise added to each action, default 0.
        seed: seed of the noise, default 0.

    Raises:
        UsageError: the task is unknown, or metaworld is not installed.
        ValueError: ``noise`` is negative.
    """

    is_memoryless = True  # an action depends on the current state alone

    def __init__(self, task: str, noise: float = 0.0, *, seed: int = 0) -> None:
        super().__init__()
        self.in_keys = [STATE]
        self.out_keys = [ACTION]
        if noise < 0:
            raise ValueError(f"noise must not be negative, found {noise}")
        policies = require_extra("metaworld.policies", "metaworld").ENV_POLICY_MAP
        name = f"{task.removesuffix('-v3')}-v3"
        if name not in policies:
            raise unknown_name("Meta-World task", task, policies)
        self._policy = policies[name]()
        self.noise = noise
        self._generator = np.random.default_rng(seed)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        state = tensordict.get(STATE)
        rows = state.detach().cpu().numpy().reshape(-1, state.shape[-1])
        with warnings.catch_warnings():
            # Meta-World warns of each action outside its bounds; actions are clipped below.
            warnings.simplefilter("ignore")
            actions = np.stack([self._policy.get_action(row) for row in rows])
        if self.noise:
            actions = actions + self._generator.normal(scale=self.noise, size=actions.shape)
        actions = torch.from_numpy(actions.clip(-1.0, 1.0).astype(np.float32))
        return tensordict.set(ACTION, actions.view(*state.shape[:-1], -1).to(state.device))
