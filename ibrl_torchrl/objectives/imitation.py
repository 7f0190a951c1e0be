"""Losses of imitation policies beside TorchRL's: likelihood, flow matching, conditional VAE."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tensordict import TensorDict, TensorDictBase, TensorDictParams
from tensordict.nn import TensorDictModule
from tensordict.utils import NestedKey
from torch import Tensor
from torch.nn.functional import mse_loss
from torchrl.objectives import LossModule

from ibrl_torchrl import keys


class _ImitationLoss(LossModule):
    """Loss of an actor whose network has parts that the loss calls.

    Args:
        actor_network: TensorDict module of the policy network, which writes actions.
    """

    @dataclass
    class _AcceptedKeys:
        """Configurable keys: the demonstrated action."""

        action: NestedKey = keys.ACTION

    tensor_keys: _AcceptedKeys
    default_keys = _AcceptedKeys
    actor_network: TensorDictModule
    actor_network_params: TensorDictParams
    target_actor_network_params: None

    def __init__(self, actor_network: TensorDictModule) -> None:
        super().__init__()
        self.convert_to_functional(actor_network, "actor_network")

    @property
    def in_keys(self) -> list[NestedKey]:
        """Observations and the action."""
        return [*self.actor_network.in_keys, self.tensor_keys.action]

    def _forward_value_estimator_keys(self, **kwargs: NestedKey) -> None:
        pass

    def _read(self, tensordict: TensorDictBase) -> tuple[list[Tensor], Tensor]:
        observations = [tensordict.get(key) for key in self.actor_network.in_keys]
        return observations, tensordict.get(self.tensor_keys.action)


class LogLikelihoodLoss(_ImitationLoss):
    """Negative log-likelihood of demonstrated actions, -E log pi(a | s).

    TorchRL's ``BCLoss`` runs the network twice for it, once for a sample that it does not use.

    Args:
        actor_network: actor with ``get_dist``, such as TorchRL's ``ProbabilisticActor``.

    Reads observations and ``action`` float [*, A]; returns ``loss_nll``, float scalar.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from ibrl_torchrl.modules import GaussianMixturePolicy, Normalize, StateFeatures
        >>> policy = GaussianMixturePolicy(StateFeatures(Normalize.identity(3)), 2, hidden=[8])
        >>> loss = LogLikelihoodLoss(policy.probabilistic_actor(["state"]))
        >>> batch = TensorDict(state=torch.zeros(5, 3), action=torch.zeros(5, 2), batch_size=[5])
        >>> loss(batch)["loss_nll"].backward()
    """

    out_keys = ["loss_nll"]

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Loss of a batch."""
        inputs = tensordict.select(*self.actor_network.in_keys)
        with self.actor_network_params.to_module(self.actor_network):
            distribution = self.actor_network.get_dist(inputs)
        action = tensordict.get(self.tensor_keys.action)
        return TensorDict(loss_nll=-distribution.log_prob(action).mean())


class FlowMatchingLoss(_ImitationLoss):
    """Conditional flow matching on straight paths (arXiv 2210.02747, 2209.03003).

    E || v(x_t, t, s) - (a - x_0) ||^2 with x_t = (1 - t) x_0 + t a, noise x_0 from N(0, I) and t
    uniform in [0, 1], as a mean over action dimensions. Of the actor's network, a
    :class:`~ibrl_torchrl.modules.FlowPolicy`, it calls ``features`` and ``velocity``.

    Args:
        actor_network: TensorDict module of the policy network, which writes actions.

    Reads observations and ``action`` float [*, A]; returns ``loss_flow``, float scalar.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> from ibrl_torchrl.modules import FlowPolicy, Normalize, StateFeatures
        >>> policy = FlowPolicy(StateFeatures(Normalize.identity(3)), 2, hidden=[8])
        >>> loss = FlowMatchingLoss(TensorDictModule(policy, ["state"], ["action"]))
        >>> batch = TensorDict(state=torch.zeros(5, 3), action=torch.zeros(5, 2), batch_size=[5])
        >>> loss(batch)["loss_flow"].backward()
    """

    out_keys = ["loss_flow"]

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Loss of a batch."""
        observations, action = self._read(tensordict)
        noise = torch.randn_like(action)
        time = torch.rand_like(action[..., :1])
        point, target = flow_matching_target(noise, action, time)
        with self.actor_network_params.to_module(self.actor_network):
            network = self.actor_network.module
            velocity = network.velocity(point, network.features(*observations), time)
        return TensorDict(loss_flow=mse_loss(velocity, target))


class CVAELoss(_ImitationLoss):
    """Negative evidence lower bound of a conditional variational autoencoder.

    E || a - d(s, z) ||^2 + w KL(q(z | s, a), N(0, I)) with z drawn from q; the first term is a mean
    over action dimensions, the second a sum over latent dimensions. TorchRL's ``ACTLoss`` is that
    of a transformer over chunks, with one observation. Of the actor's network, a
    :class:`~ibrl_torchrl.modules.CVAEPolicy`, it calls ``features``, ``encode`` and ``decode``.

    Args:
        actor_network: TensorDict module of the policy network, which writes actions.
        kl_weight: w, at least 0; default 0.01.

    Reads observations and ``action`` float [*, A]; returns ``loss_reconstruction`` and ``loss_kl``
    (weighted), float scalars.

    Raises:
        ValueError: ``kl_weight`` is negative.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> from ibrl_torchrl.modules import CVAEPolicy, Normalize, StateFeatures
        >>> policy = CVAEPolicy(StateFeatures(Normalize.identity(3)), 2, hidden=[8])
        >>> loss = CVAELoss(TensorDictModule(policy, ["state"], ["action"]))
        >>> batch = TensorDict(state=torch.zeros(5, 3), action=torch.zeros(5, 2), batch_size=[5])
        >>> sum(loss(batch).values()).backward()
    """

    out_keys = ["loss_reconstruction", "loss_kl"]

    def __init__(self, actor_network: TensorDictModule, *, kl_weight: float = 0.01) -> None:
        if kl_weight < 0:
            raise ValueError(f"kl_weight must not be negative, got {kl_weight}")
        super().__init__(actor_network)
        self.kl_weight = kl_weight

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Both terms of a batch."""
        observations, action = self._read(tensordict)
        with self.actor_network_params.to_module(self.actor_network):
            network = self.actor_network.module
            features = network.features(*observations)
            mean, log_var = network.encode(features, action)
            latent = mean + (log_var / 2).exp() * torch.randn_like(mean)
            decoded = network.decode(features, latent)
        return TensorDict(
            loss_reconstruction=mse_loss(decoded, action),
            loss_kl=self.kl_weight * standard_normal_kl(mean, log_var).mean(),
        )


def flow_matching_target(noise: Tensor, action: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """Point of the straight path from noise to action at a time, and its velocity.

    Args:
        noise: start, float [*, A].
        action: end, float [*, A].
        time: float [*, 1] in [0, 1].

    Returns:
        Point and velocity, float [*, A] each.
    """
    return torch.lerp(noise, action, time), action - noise


def standard_normal_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, exp(log_var)), N(0, I)) of float [*, Z], float [*]."""
    return 0.5 * (mean.pow(2) + log_var.exp() - 1 - log_var).sum(-1)
