"""Exploration noise with memory."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey, expand_as_right
from torch import Tensor
from torchrl.data import TensorSpec
from torchrl.envs.utils import ExplorationType, exploration_type
from torchrl.modules import OrnsteinUhlenbeckProcessModule

from ibrl_torchrl.keys import IS_INIT

_SCALE = "_noise_scale"  # key of the factor of an episode's noise


class CorrelatedNoise(OrnsteinUhlenbeckProcessModule):
    """Ornstein-Uhlenbeck noise of a standard deviation and correlation; zero before an episode.

    The state of the process stays in the TensorDict beside the action, as ``EnvBase.rollout`` and
    collectors keep it. An episode starts where it is missing or zeroed, or where ``is_init``
    (``InitTracker``) is true. As in TorchRL, the noise is left out under
    ``ExplorationType.DETERMINISTIC``, and the action is projected onto its space.

    With a ``spread`` each episode has a scale of its own, so that some explore widely while others
    show what the policy does nearly undisturbed.

    Args:
        spec: action space.
        std: standard deviation of the process, in action units.
        correlation: correlation with the noise of the frame before, in [0, 1).
        spread: the noise of each episode is multiplied by a number drawn uniformly from
            [1 - spread, 1 + spread]; in [0, 1]. Default 0: by none.
        action_key: key of the action float [*, A] or candidates [*, n, A], default ``"action"``.
        device: device of the buffers; None (default): the CPU.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from torchrl.data import Bounded
        >>> noise = CorrelatedNoise(Bounded(-1.0, 1.0, (2,)), 0.1, 0.85)
        >>> td = noise(TensorDict(action=torch.zeros(2)))
        >>> td["_ou_steps"].item(), noise(td)["_ou_steps"].item()
        (1, 2)
    """

    def __init__(
        self,
        spec: TensorSpec,
        std: float,
        correlation: float,
        *,
        spread: float = 0.0,
        action_key: NestedKey = "action",
        device: torch.device | None = None,
    ) -> None:
        super().__init__(
            spec,
            eps_init=1.0,
            eps_end=1.0,
            theta=1 - correlation,
            sigma=std * (1 - correlation**2) ** 0.5,
            dt=1.0,
            action_key=action_key,
            device=device,
        )
        self.spread = spread
        if spread > 0:
            self.out_keys = [action_key, *self.ou.out_keys, _SCALE]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Add noise to the action."""
        tensordict = self._add_noise(tensordict)
        random = exploration_type() in (None, ExplorationType.RANDOM)
        return self._scale_noise(tensordict) if random and self.spread > 0 else tensordict

    def _add_noise(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Add the process's next value to the action, its first where the episode starts."""
        if IS_INIT in tensordict:
            return super().forward(tensordict)
        steps = tensordict.get(self.ou.steps_key, None)
        if steps is None:
            is_init = torch.ones(tensordict.batch_size, dtype=torch.bool, device=tensordict.device)
        else:
            is_init = steps == 0
        return super().forward(tensordict.set(IS_INIT, is_init)).exclude(IS_INIT, inplace=True)

    def _scale_noise(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Multiply the noise in the action by the episode's scale."""
        key = self.ou.key
        action, noise = tensordict.get(key), tensordict.get(self.ou.noise_key)
        scale = self._episode_scale(tensordict).to(action.dtype)
        return tensordict.set(key, action + (expand_as_right(scale, noise) - 1) * noise)

    def _episode_scale(self, tensordict: TensorDictBase) -> Tensor:
        """Scale of each episode [*], drawn anew at its first frame."""
        steps = tensordict.get(self.ou.steps_key)
        drawn = 1 + self.spread * (2 * torch.rand(steps.shape, device=steps.device) - 1)
        scale = torch.where(steps == 1, drawn, tensordict.get(_SCALE, drawn))
        tensordict.set(_SCALE, scale)
        return scale
