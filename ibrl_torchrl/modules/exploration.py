"""Exploration noise with memory."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.utils import NestedKey
from torchrl.data import TensorSpec
from torchrl.modules import OrnsteinUhlenbeckProcessModule

from ibrl_torchrl.keys import IS_INIT


class CorrelatedNoise(OrnsteinUhlenbeckProcessModule):
    """Ornstein-Uhlenbeck noise of a standard deviation and correlation; zero before an episode.

    The state of the process stays in the TensorDict beside the action, as ``EnvBase.rollout`` and
    collectors keep it. An episode starts where it is missing or zeroed, or where ``is_init``
    (``InitTracker``) is true. As in TorchRL, the noise is left out under
    ``ExplorationType.DETERMINISTIC``, and the action is projected onto its space.

    Args:
        spec: action space.
        std: standard deviation of the process, in action units.
        correlation: correlation with the noise of the frame before, in [0, 1).
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

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Add noise to the action."""
        if IS_INIT in tensordict:
            return super().forward(tensordict)
        steps = tensordict.get(self.ou.steps_key, None)
        if steps is None:
            is_init = torch.ones(tensordict.batch_size, dtype=torch.bool, device=tensordict.device)
        else:
            is_init = steps == 0
        return super().forward(tensordict.set(IS_INIT, is_init)).exclude(IS_INIT, inplace=True)
