"""Exploration noise on the RL action, from settings."""

from __future__ import annotations

import torch
from tensordict.nn import TensorDictModuleBase
from torchrl.data import TensorSpec
from torchrl.modules import AdditiveGaussianModule

from ibrl_torchrl.keys import RL_ACTION
from ibrl_torchrl.modules import CorrelatedNoise


def build_noise(
    std: float, correlation: float, action_spec: TensorSpec, device: torch.device
) -> TensorDictModuleBase:
    """Gaussian noise on the RL action, which is then projected onto the action space.

    Args:
        std: standard deviation, in action units.
        correlation: correlation with the noise of the frame before; 0: white noise.
        action_spec: action space.
        device: device of the policy.
    """
    spec = action_spec.to(device)
    if correlation > 0:
        return CorrelatedNoise(spec, std, correlation, action_key=RL_ACTION, device=device)
    white = AdditiveGaussianModule(spec=spec, sigma_init=std, sigma_end=std, action_key=RL_ACTION)
    return white.to(device)
