"""Exploration: noise correlated over time, noise scaled by values, and a policy of its own."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey, expand_as_right
from torchrl.data import TensorSpec
from torchrl.envs.utils import ExplorationType, exploration_type
from torchrl.modules import OrnsteinUhlenbeckProcessModule

from ibrl_torchrl.keys import ACTION, CHOSEN_VALUE, IS_INIT


class CorrelatedNoise(OrnsteinUhlenbeckProcessModule):
    """Ornstein-Uhlenbeck noise of a standard deviation and correlation; zero before an episode.

    The state of the process stays in the TensorDict beside the action, as ``EnvBase.rollout`` and
    collectors keep it. An episode starts where it is missing or zeroed, or where ``is_init``
    (``InitTracker``) is true. As in TorchRL, the noise is left out under
    ``ExplorationType.DETERMINISTIC``, and the action is projected onto its space.

    Args:
        spec: action space.
        std: standard deviation of the process, in action units, at least 0.
        correlation: correlation with the noise of the frame before, in [0, 1).
        action_key: key of the action float [*, A] or candidates [*, n, A], default ``"action"``.
        device: device of the buffers; None (default): the CPU.

    Raises:
        ValueError: ``std`` or ``correlation`` is out of range.

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
        if std < 0:
            raise ValueError(f"std must be at least 0, got {std}")
        if not 0 <= correlation < 1:
            raise ValueError(f"correlation must be in [0, 1), got {correlation}")
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
            device = tensordict.get(self.ou.key).device
            is_init = torch.ones(tensordict.batch_size, dtype=torch.bool, device=device)
        else:
            is_init = steps == 0
        return super().forward(tensordict.set(IS_INIT, is_init)).exclude(IS_INIT, inplace=True)


class ValueScaledNoise(TensorDictModuleBase):
    """Exploration noise that is smaller where success is likely.

    What ``noise`` adds to the action is multiplied by (1 - V)^power, where V in [0, 1] is the value
    that the critics gave to the action of the frame before: with a reward of 1 at success, V is
    the discounted probability of success. :class:`~ibrl_torchrl.modules.IBRLSelector` writes it,
    and ``EnvBase.rollout`` and collectors keep it in the TensorDict. Values outside of [0, 1] are
    clipped to it. The first frame of an episode has none: no noise is added then.

    Args:
        noise: exploration module that changes the action in place, such as TorchRL's
            ``AdditiveGaussianModule`` or :class:`CorrelatedNoise`, of the deviation at V = 0.
        power: exponent, above 0; default 2.
        action_key: key of the action float [*, A] or candidates [*, n, A], default ``"action"``.
        value_key: key of the value float [*, 1], default ``"chosen_value"``.

    Raises:
        ValueError: ``power`` is not above 0.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from torchrl.data import Bounded
        >>> noise = ValueScaledNoise(CorrelatedNoise(Bounded(-1.0, 1.0, (2,)), 0.3, 0.95))
        >>> td = noise(TensorDict(action=torch.zeros(2), chosen_value=torch.ones(1)))
        >>> td["action"]
        tensor([0., 0.])
    """

    def __init__(
        self,
        noise: TensorDictModuleBase,
        power: float = 2.0,
        *,
        action_key: NestedKey = ACTION,
        value_key: NestedKey = CHOSEN_VALUE,
    ) -> None:
        super().__init__()
        if power <= 0:
            raise ValueError(f"power must be above 0, got {power}")
        self.noise = noise
        self.power = power
        self.action_key = action_key
        self.value_key = value_key
        self.in_keys = [action_key]  # as in TorchRL, without the optional state of the noise
        self.out_keys = [*dict.fromkeys([action_key, *noise.out_keys])]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Add scaled noise to the action."""
        action = tensordict.get(self.action_key)
        noisy = self.noise(tensordict).get(self.action_key)
        value = tensordict.get(self.value_key, None)
        if value is None:
            return tensordict.set(self.action_key, action)
        scale = (1 - value.squeeze(-1).clamp(0, 1)) ** self.power
        if (is_init := tensordict.get(IS_INIT, None)) is not None:
            # Collectors keep the value of the episode before.
            scale = scale.masked_fill(is_init.squeeze(-1), 0)
        # Between two actions of the space, and so in it.
        scaled = action.lerp(noisy, expand_as_right(scale, action))
        return tensordict.set(self.action_key, scaled)


class ExplorationPolicy(TensorDictModuleBase):
    """Policy that another one replaces while exploring: under ``ExplorationType.RANDOM``.

    Exploring and exploiting by two policies lets the second go on with what works while the first
    tries what its critics promise (decoupled policies, arXiv 2101.09458).

    Args:
        policy: acts under ``ExplorationType.DETERMINISTIC``, as in evaluations. What both write are
            the outputs, such as ``action`` and ``proposal``.
        exploring: acts under ``ExplorationType.RANDOM`` and, as in TorchRL's exploration modules,
            without a context.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> from torchrl.envs.utils import ExplorationType, set_exploration_type
        >>> zero = TensorDictModule(torch.zeros_like, ["state"], ["action"])
        >>> one = TensorDictModule(torch.ones_like, ["state"], ["action"])
        >>> policy, td = ExplorationPolicy(zero, one), TensorDict(state=torch.zeros(1))
        >>> policy(td)["action"].item()
        1.0
        >>> with set_exploration_type(ExplorationType.DETERMINISTIC):
        ...     policy(td)["action"].item()
        0.0
    """

    def __init__(self, policy: TensorDictModuleBase, exploring: TensorDictModuleBase) -> None:
        super().__init__()
        self.policy = policy
        self.exploring = exploring
        self.in_keys = [*dict.fromkeys([*policy.in_keys, *exploring.in_keys])]
        self.out_keys = [key for key in policy.out_keys if key in exploring.out_keys]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Act by the policy of the current exploration type."""
        random = exploration_type() in (None, ExplorationType.RANDOM)
        return (self.exploring if random else self.policy)(tensordict)
