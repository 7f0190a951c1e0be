"""Diffusion policy: TorchRL's ``DiffusionActor`` on features of the observation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import DiffusionActor

from ibrl_torchrl.modules.imitation.base import StochasticPolicy
from ibrl_torchrl.modules.imitation.denoiser import Denoiser
from ibrl_torchrl.modules.imitation.features import Features


class _ScoreNetwork(nn.Module):
    """Noise of a noisy action, from TorchRL's input: action, features and step, concatenated."""

    def __init__(self, action_size: int, steps: int, denoiser: Denoiser) -> None:
        super().__init__()
        self.action_size = action_size
        self.steps = steps
        self.denoiser = denoiser

    def forward(self, inputs: Tensor) -> Tensor:
        """Map float [*, A + F + 1] to [*, A]."""
        action, features, step = inputs.tensor_split((self.action_size, inputs.shape[-1] - 1), -1)
        return self.denoiser(action, features, step / self.steps)


class DiffusionPolicy(StochasticPolicy):
    """Policy that denoises actions (Diffusion Policy, arXiv 2303.04137).

    Its part ``actor`` is TorchRL's ``DiffusionActor``, whose observation are the features; its
    ``DiffusionBCLoss`` trains both, see the example. The noise variances rise linearly from
    0.1 / ``steps`` to 20 / ``steps``, those of DDPM (arXiv 2006.11239) for another number of steps,
    but to 0.5 at most, so that no step amplifies errors by more than sqrt(2). (TorchRL's defaults
    are for 1000 steps; with 100, noise never dominates.) Under ``ExplorationType.DETERMINISTIC``
    the noise is zero, at the start and in each step.

    Args:
        features: observations as one vector, :class:`StateFeatures` or :class:`PixelFeatures`.
        action_size: number of action dimensions A.
        steps: denoising steps, 10 or more; default 20.
        hidden: width of each hidden layer, default three of 256.
        dropout: probability of zeroing a hidden unit in train mode, default 0.
        layer_norm: layer norm after each hidden layer's linear map, default False.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from torchrl.objectives import DiffusionBCLoss
        >>> from ibrl_torchrl.modules import Normalize, StateFeatures
        >>> policy = DiffusionPolicy(StateFeatures(Normalize.identity(3)), 2, hidden=[8])
        >>> policy(torch.zeros(7, 3)).shape
        torch.Size([7, 2])
        >>> loss = DiffusionBCLoss(policy.actor)
        >>> loss.set_keys(observation="features")
        >>> batch = TensorDict(state=torch.randn(5, 3), action=torch.zeros(5, 2), batch_size=[5])
        >>> features = policy.features(batch["state"])
        >>> loss(batch.set("features", features))["loss_diffusion_bc"].backward()
    """

    def __init__(
        self,
        features: Features,
        action_size: int,
        *,
        steps: int = 20,
        hidden: Sequence[int] = (256, 256, 256),
        dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__(features)
        denoiser = Denoiser(
            features.size, action_size, hidden=hidden, dropout=dropout, layer_norm=layer_norm
        )
        self.actor = DiffusionActor(
            action_size,
            score_network=_ScoreNetwork(action_size, steps, denoiser),
            num_steps=steps,
            beta_start=0.1 / steps,
            beta_end=min(20 / steps, 0.5),
        )

    def act(self, features: Tensor, *, sample: bool) -> Tensor:
        """Denoised action [*, A], of noise or of zero."""
        mode = ExplorationType.RANDOM if sample else ExplorationType.DETERMINISTIC
        with set_exploration_type(mode):
            return self.actor.module(features)
