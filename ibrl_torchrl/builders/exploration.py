"""Exploration noise on the RL action, from settings."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.data import TensorSpec
from torchrl.modules import AdditiveGaussianModule, OrnsteinUhlenbeckProcessModule

from ibrl_torchrl.keys import IS_INIT, RL_ACTION


def build_noise(
    std: float, correlation: float, action_spec: TensorSpec, device: torch.device
) -> TensorDictModuleBase:
    """Gaussian noise on the RL action, which is then projected onto the action space.

    Args:
        std: standard deviation, in action units.
        correlation: correlation with the noise of the frame before, in [0, 1). 0 is white noise;
            otherwise an Ornstein-Uhlenbeck process, which starts each episode at zero.
        action_spec: action space.
        device: device of the policy.
    """
    spec = action_spec.to(device)
    if correlation == 0:
        white = AdditiveGaussianModule(
            spec=spec, sigma_init=std, sigma_end=std, action_key=RL_ACTION
        )
        return white.to(device)
    process = OrnsteinUhlenbeckProcessModule(
        spec,
        eps_init=1.0,
        eps_end=1.0,
        theta=1 - correlation,
        sigma=std * (1 - correlation**2) ** 0.5,  # so that the process has the deviation std
        dt=1.0,
        action_key=RL_ACTION,
        device=device,
    )
    return _OfEpisodes(process)


class _OfEpisodes(TensorDictModuleBase):
    """Noise process that starts anew where its state is missing or zero.

    TorchRL's reads ``is_init``, which ``EnvBase.rollout`` has only with a transform. Its state is
    carried from step to step beside the observations, and is missing after a reset.
    """

    def __init__(self, process: OrnsteinUhlenbeckProcessModule) -> None:
        super().__init__()
        self.process = process
        self.in_keys = [*process.in_keys]
        self.out_keys = [*process.out_keys]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Add noise to the action."""
        steps = tensordict.get(self.process.ou.steps_key, None)
        starts = torch.ones(tensordict.batch_size, dtype=torch.bool, device=tensordict.device)
        noisy = self.process(
            tensordict.copy().set(IS_INIT, starts if steps is None else steps == 0)
        )
        return tensordict.update(noisy.select(*self.out_keys, strict=False))
