"""Policy with a mixture of Gaussians."""

from __future__ import annotations

from collections.abc import Sequence

from tensordict.nn import TensorDictModule, TensorDictModuleBase, TensorDictSequential
from tensordict.utils import NestedKey
from torch import Tensor, distributions, nn
from torch.nn.functional import softplus
from torchrl.envs.utils import ExplorationType
from torchrl.modules import ProbabilisticActor

from ibrl_torchrl.keys import FEATURES
from ibrl_torchrl.modules.imitation.base import StochasticPolicy
from ibrl_torchrl.modules.imitation.features import Features
from ibrl_torchrl.modules.mlp import relu_mlp

PARAMETERS = ("logits", "loc", "scale")


class GaussianMixture(distributions.MixtureSameFamily):
    """Mixture of K Gaussians with diagonal covariance over A dimensions.

    Args:
        logits: unnormalised log weights, float [*, K].
        loc: means, float [*, K, A].
        scale: standard deviations, float [*, K, A].

    Example:
        >>> import torch
        >>> loc = torch.tensor([[-0.5], [0.5]])
        >>> GaussianMixture(torch.tensor([0.0, 1.0]), loc, torch.ones(2, 1)).mode
        tensor([0.5000])
    """

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor) -> None:
        weights = distributions.Categorical(logits=logits, validate_args=False)
        normal = distributions.Normal(loc, scale, validate_args=False)
        components = distributions.Independent(normal, 1, validate_args=False)
        super().__init__(weights, components, validate_args=False)
        self._likeliest = logits.argmax(-1)
        self._loc = loc

    @property
    def mode(self) -> Tensor:
        """Mean of the component of the highest weight, float [*, A]."""
        index = self._likeliest[..., None, None].expand(*self._loc.shape[:-2], 1, *self.event_shape)
        return self._loc.gather(-2, index).squeeze(-2)

    @property
    def deterministic_sample(self) -> Tensor:
        """Action under ``ExplorationType.DETERMINISTIC``: the mode, float [*, A]."""
        return self.mode


class MixtureNetwork(nn.Module):
    """Parameters of the mixture by a network; means in [-1, 1] by tanh.

    Args:
        action_size: number of action dimensions A.
        components: number of Gaussians K.
        min_std: lower bound of the standard deviations.
        mlp: maps features to K (1 + 2 A) numbers.
    """

    def __init__(self, action_size: int, components: int, min_std: float, mlp: nn.Module) -> None:
        super().__init__()
        self.mlp = mlp
        self.components = components
        self.action_size = action_size
        self.min_std = min_std

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map features to logits [*, K], means and standard deviations [*, K, A]."""
        size = self.components * self.action_size
        output = self.mlp(features)
        logits, loc, scale = output.split([self.components, size, size], -1)
        shape = (self.components, self.action_size)
        std = softplus(scale).unflatten(-1, shape) + self.min_std
        return logits, loc.unflatten(-1, shape).tanh(), std

    def act(self, features: Tensor, *, sample: bool) -> Tensor:
        """Sample of the mixture, or its mode, float [*, A]."""
        mixture = GaussianMixture(*self(features))
        return mixture.sample() if sample else mixture.mode


def mixture_actor(parameters: TensorDictModuleBase, action_key: NestedKey) -> ProbabilisticActor:
    """Actor of TorchRL that draws from a mixture, which losses ask for the distribution.

    Args:
        parameters: module that writes ``logits``, ``loc`` and ``scale`` of a
            :class:`GaussianMixture`.
        action_key: key of the action.
    """
    return ProbabilisticActor(
        parameters,
        in_keys=[*PARAMETERS],
        out_keys=[action_key],
        distribution_class=GaussianMixture,
        default_interaction_type=ExplorationType.RANDOM,
    )


class GaussianMixturePolicy(StochasticPolicy):
    """Policy with a mixture of K Gaussians, as robomimic's BC-GMM (arXiv 2108.03298).

    Trained by :class:`~ibrl_torchrl.objectives.LogLikelihoodLoss` on ``probabilistic_actor``. Under
    ``ExplorationType.DETERMINISTIC`` the action is the mean of the component of the highest weight.

    Args:
        features: observations as one vector, :class:`StateFeatures` or :class:`PixelFeatures`.
        action_size: number of action dimensions A.
        components: number of Gaussians K, default 5.
        min_std: lower bound of the standard deviations, default 0.03.
        hidden: width of each hidden layer, default three of 256.
        dropout: probability of zeroing a hidden unit in train mode, default 0.
        layer_norm: layer norm after each hidden layer's linear map, default False.

    Example:
        >>> import torch
        >>> from ibrl_torchrl.modules import Normalize, StateFeatures
        >>> policy = GaussianMixturePolicy(StateFeatures(Normalize.identity(3)), 2, hidden=[8])
        >>> policy(torch.zeros(7, 3)).shape
        torch.Size([7, 2])
        >>> actor = policy.probabilistic_actor(["state"])
    """

    def __init__(
        self,
        features: Features,
        action_size: int,
        *,
        components: int = 5,
        min_std: float = 0.03,
        hidden: Sequence[int] = (256, 256, 256),
        dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__(features)
        outputs = components * (1 + 2 * action_size)
        mlp = relu_mlp(features.size, hidden, outputs, dropout, layer_norm=layer_norm)
        self.mixture = MixtureNetwork(action_size, components, min_std, mlp)

    def act(self, features: Tensor, *, sample: bool) -> Tensor:
        """Sample of the mixture, or its mode, float [*, A]."""
        return self.mixture.act(features, sample=sample)

    def probabilistic_actor(
        self, in_keys: Sequence[NestedKey], action_key: NestedKey = "action"
    ) -> ProbabilisticActor:
        """Actor of TorchRL on the same parameters, which losses ask for the distribution.

        Args:
            in_keys: observation keys.
            action_key: key of the action; default ``"action"``.
        """
        parameters = TensorDictSequential(
            TensorDictModule(self.features, in_keys=[*in_keys], out_keys=[FEATURES]),
            TensorDictModule(self.mixture, in_keys=[FEATURES], out_keys=[*PARAMETERS]),
        )
        return mixture_actor(parameters, action_key)
