"""Recurrent policy with a mixture of Gaussians."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule, TensorDictModuleBase
from torch import Tensor, nn
from torchrl.modules import LSTMModule, ProbabilisticActor

from ibrl_torchrl.keys import FEATURES, IS_INIT
from ibrl_torchrl.modules.imitation.base import StochasticPolicy
from ibrl_torchrl.modules.imitation.features import Features
from ibrl_torchrl.modules.imitation.mixture import PARAMETERS, MixtureNetwork, mixture_actor


class RecurrentMixturePolicy(StochasticPolicy):
    """LSTM with a mixture of K Gaussians, robomimic's BC-RNN-GMM (arXiv 2108.03298).

    Trained on windows of ``horizon`` steps from a zero state, by
    :class:`~ibrl_torchrl.objectives.LogLikelihoodLoss` on ``probabilistic_actor``. While acting,
    its state returns to zero every ``horizon`` steps, see :class:`RecurrentPolicy`. Called on
    tensors it maps sequences.

    Args:
        features: observations as one vector, :class:`StateFeatures` or :class:`PixelFeatures`.
        action_size: number of action dimensions A.
        components: number of Gaussians K, default 5.
        min_std: lower bound of the standard deviations, default 0.03.
        width: units of each LSTM layer, default 128; robomimic: 400.
        layers: LSTM layers, default 1; robomimic: 2.
        horizon: steps of a window, default 10.

    Example:
        >>> import torch
        >>> from ibrl_torchrl.modules import Normalize, StateFeatures
        >>> policy = RecurrentMixturePolicy(StateFeatures(Normalize.identity(3)), 2, width=8)
        >>> policy(torch.zeros(7, 10, 3)).shape
        torch.Size([7, 10, 2])
    """

    def __init__(
        self,
        features: Features,
        action_size: int,
        *,
        components: int = 5,
        min_std: float = 0.03,
        width: int = 128,
        layers: int = 1,
        horizon: int = 10,
    ) -> None:
        super().__init__(features)
        self.horizon = horizon
        self.rnn = nn.LSTM(features.size, width, layers, batch_first=True)
        head = nn.Linear(width, components * (1 + 2 * action_size))
        self.mixture = MixtureNetwork(action_size, components, min_std, head)

    def act(self, features: Tensor, *, sample: bool) -> Tensor:
        """Map sequences of features [N, T, F], from a zero state, to actions [N, T, A]."""
        return self.mixture.act(self.rnn(features)[0], sample=sample)

    def probabilistic_actor(
        self, in_keys: Sequence[str], action_key: str = "action"
    ) -> ProbabilisticActor:
        """Actor of sequences on the same parameters, which losses ask for the distribution.

        Args:
            in_keys: observation keys, [N, T, ...].
            action_key: key of the action; default ``"action"``.
        """
        parameters = TensorDictModule(_Sequence(self), in_keys=[*in_keys], out_keys=[*PARAMETERS])
        return mixture_actor(parameters, action_key)


class _Sequence(nn.Module):
    """Parameters of the mixture along sequences of observations."""

    def __init__(self, policy: RecurrentMixturePolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, *observations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs, _ = self.policy.rnn(self.policy.features(*observations))
        parameters: tuple[Tensor, Tensor, Tensor] = self.policy.mixture(outputs)
        return parameters


class RecurrentPolicy(TensorDictModuleBase):
    """TensorDict module of a :class:`RecurrentMixturePolicy`, which carries its state.

    The state of the LSTM and a counter of steps stay in the TensorDict beside the action, under
    ``KEY_hidden``, ``KEY_cell`` and ``KEY_step``, as ``EnvBase.rollout`` and collectors keep them.
    An episode starts, with a zero state, where they are missing or ``is_init`` (``InitTracker``) is
    true; every ``horizon`` steps the state returns to zero. In TorchRL's recurrent mode
    (``set_recurrent_mode``) a batch [..., T] is an episode each, read from its start.

    Args:
        network: policy network.
        in_keys: observation keys.
        action_key: key of the action, KEY, such as ``"bc_action"``.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from ibrl_torchrl.modules import Normalize, StateFeatures
        >>> network = RecurrentMixturePolicy(StateFeatures(Normalize.identity(3)), 2, width=8)
        >>> policy = RecurrentPolicy(network, ["state"], "bc_action")
        >>> td = policy(TensorDict(state=torch.zeros(3)))
        >>> td["bc_action"].shape, td["bc_action_hidden"].shape, td["bc_action_step"].item()
        (torch.Size([2]), torch.Size([1, 8]), 0)
    """

    def __init__(
        self, network: RecurrentMixturePolicy, in_keys: Sequence[str], action_key: str
    ) -> None:
        super().__init__()
        self.network = network
        self._observations = [*in_keys]
        hidden, cell, self._step = (f"{action_key}_{part}" for part in ("hidden", "cell", "step"))
        self._rnn = LSTMModule(
            lstm=network.rnn, in_keys=[FEATURES, hidden, cell], out_keys=[FEATURES, hidden, cell]
        )
        self.in_keys = [*in_keys, hidden, cell, self._step]
        self.out_keys = [action_key, hidden, cell, self._step]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the action [*, A] and the state."""
        step = self._next_step(tensordict)
        inputs = tensordict.select(*self.in_keys, strict=False).set(IS_INIT, step == 0)
        observations = [tensordict.get(key) for key in self._observations]
        outputs = self._rnn(inputs.set(FEATURES, self.network.features(*observations)))
        action, hidden, cell, counter = self.out_keys
        sample = self.network.draws()
        chosen = self.network.mixture.act(outputs.get(FEATURES), sample=sample)
        tensordict.set(action, chosen.clamp(-1, 1)).set(counter, step)
        return tensordict.set(hidden, outputs.get(hidden)).set(cell, outputs.get(cell))

    def _next_step(self, tensordict: TensorDictBase) -> Tensor:
        """Steps since the state was zero, int64 [*, 1]."""
        shape = (*tensordict.batch_size, 1)
        device = tensordict.get(self._observations[0]).device
        if self._rnn.recurrent_mode:
            steps = torch.arange(shape[-2], device=device)[:, None] % self.network.horizon
            return steps.expand(shape)
        previous = tensordict.get(self._step, None)
        if previous is None:
            return torch.zeros(shape, dtype=torch.int64, device=device)
        step = (previous + 1) % self.network.horizon
        is_init = tensordict.get(IS_INIT, None)
        return step if is_init is None else step.masked_fill(is_init, 0)
