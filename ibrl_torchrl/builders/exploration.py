"""Exploration noise on the RL action, from settings."""

from __future__ import annotations

import torch
from tensordict.nn import TensorDictModuleBase
from torchrl.data import TensorSpec
from torchrl.modules import AdditiveGaussianModule

from ibrl_torchrl.keys import RL_ACTION
from ibrl_torchrl.modules import CorrelatedNoise, ValueScaledNoise


def build_noise(
    std: float,
    correlation: float,
    value_power: float,
    action_spec: TensorSpec,
    device: torch.device,
) -> TensorDictModuleBase:
    """Gaussian noise on the RL action, which is then projected onto the action space.

    Args:
        std: standard deviation, in action units.
        correlation: correlation with the noise of the frame before; 0: white noise.
        value_power: exponent of its factor (1 - V)^power; 0: no such factor.
        action_spec: action space.
        device: device of the policy.
    """
    noise = _gaussian_noise(std, correlation, action_spec.to(device), device)
    if value_power == 0:
        return noise
    return ValueScaledNoise(noise, value_power, action_key=RL_ACTION)


def _gaussian_noise(
    std: float, correlation: float, spec: TensorSpec, device: torch.device
) -> TensorDictModuleBase:
    if correlation > 0:
        return CorrelatedNoise(spec, std, correlation, action_key=RL_ACTION, device=device)
    white = AdditiveGaussianModule(spec=spec, sigma_init=std, sigma_end=std, action_key=RL_ACTION)
    return white.to(device)
