"""Adapters: what the bootstrap proposal asks of each of TorchRL's losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor, nn
from torchrl.data import Bounded, Composite
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import BatchRenorm1d
from torchrl.objectives import (
    CrossQLoss,
    DDPGLoss,
    LossModule,
    REDQLoss,
    SACLoss,
    TD3Loss,
    TQCLoss,
)

from ibrl_torchrl.modules.bounds import Bounds, clip
from ibrl_torchrl.modules.critics.base import CriticEnsembleBase, candidate_inputs
from ibrl_torchrl.modules.critics.separate import SeparateCritics
from ibrl_torchrl.modules.critics.stacked import Reduction, StackedCritics, evaluate_stacked
from ibrl_torchrl.modules.frozen import require_action_output, tied_copy
from ibrl_torchrl.objectives.functional import run_policy, with_params

OWN_ACTION = "_own_action"  # action of a loss's actor at s', within a target


class CandidateValues(NamedTuple):
    """Values of candidates by the critics of a target.

    Attributes:
        values: bootstrapped value of each candidate, float [*, N, V]; V > 1 for quantiles.
        by_critic: value of each candidate by each critic, float [*, N, E].
    """

    values: Tensor
    by_critic: Tensor


class LossAdapter(ABC):
    """Critics and actor of a loss, for its target and for acting.

    Args:
        loss: the loss; a reference.
    """

    network = "qvalue_network"  # name of the critics in the loss
    gives_next_value = True  # the loss hands the value of its own action at s' to the estimator
    has_proposals = False  # the loss bootstraps from proposals by itself
    actor_keys: Sequence[NestedKey] = (OWN_ACTION,)  # that `propose` writes
    further_keys: Sequence[NestedKey] = ()  # that it writes, of actors which follow the proposals

    def __init__(self, loss: Any) -> None:
        self.loss = loss

    @property
    def action_key(self) -> NestedKey:
        """Key of the action that the critics read."""
        return self.loss.tensor_keys.action

    @property
    def critic(self) -> TensorDictModuleBase:
        """Critic network."""
        return getattr(self.loss, self.network)

    @property
    def bounds(self) -> Bounds | None:
        """(low, high) of the actions; None where the loss does not know them."""
        spec = getattr(self.loss, "_action_spec", None)
        spec = getattr(self.loss.actor_network, "spec", None) if spec is None else spec
        if isinstance(spec, Composite):
            spec = spec[self.action_key]
        return (spec.space.low, spec.space.high) if isinstance(spec, Bounded) else None

    @property
    def num_min(self) -> int:
        """Number of critics whose minimum counts while acting."""
        return self.loss.num_qvalue_nets

    @property
    def steps_to_next_obs(self) -> Tensor | None:
        """Steps of n-step transitions that the loss drops; None: it passes them on."""
        return None

    @property
    def acting_encoder(self) -> list[TensorDictModuleBase]:
        """Encoder that runs before the actor, in eval mode, by reference; empty without one."""
        return []

    @property
    def acting_keys(self) -> list[NestedKey]:
        """Keys of the actor's proposals."""
        return [require_action_output(self.loss.actor_network)]

    def encode(self, next_tensordict: TensorDictBase) -> TensorDictBase:
        """Copy of s' in which proposals and actor find what they read."""
        return next_tensordict.copy()

    @abstractmethod
    def propose(self, tensordict: TensorDictBase) -> Tensor | float:
        """Write the actions of the loss's actors at s' under their keys, as its target does.

        Returns:
            The entropy term alpha log pi, float [*]; 0.0 for deterministic actors.
        """

    def evaluate(
        self,
        tensordict: TensorDictBase,
        candidates: Tensor,
        width: int | None,
        *,
        all_critics: bool,
    ) -> CandidateValues:
        """Value candidates by the critics of the target.

        Args:
            tensordict: s', batch shape [*].
            candidates: float [*, N, A].
            width: size V of the loss's own next value; None: not known.
            all_critics: value by each critic is needed, also of those that were not drawn.
        """
        del all_critics  # these losses draw no subset, or have drawn one for everything
        values = self._values(tensordict, candidates)
        return CandidateValues(self._reduce(values, width), values.mean(-1))

    def acting_critics(self, *, target: bool = False) -> CriticEnsembleBase:
        """Online or target critics in eval mode, by reference, for a selector."""
        return StackedCritics(
            tied_copy(self.critic).eval(),
            getattr(self.loss, f"{'target_' if target else ''}qvalue_network_params"),
            action_key=self.action_key,
            value_key=self.loss.tensor_keys.state_action_value,
            reduction=self.acting_reduction,
        )

    @property
    def acting_reduction(self) -> Reduction | None:
        """Reduction of critics' values while acting; None: the minimum."""
        return None

    def _values(self, tensordict: TensorDictBase, candidates: Tensor) -> Tensor:
        """Values [*, N, E, V] of candidates [*, N, A] by the target critics."""
        return self._stacked_values(tensordict, candidates, self.loss.target_qvalue_network_params)

    def _stacked_values(
        self, tensordict: TensorDictBase, candidates: Tensor, params: TensorDictBase
    ) -> Tensor:
        return evaluate_stacked(
            self.critic,
            params,
            tensordict,
            candidates,
            action_key=self.action_key,
            value_key=self.loss.tensor_keys.state_action_value,
            randomness=self.loss.vmap_randomness,
        )

    def _reduce(self, values: Tensor, width: int | None) -> Tensor:
        """Values [*, N, V] of values [*, N, E, V], reduced as the loss reduces its own."""
        del width
        return values.amin(-2)


class StochasticAdapter(LossAdapter):
    """Losses with a stochastic actor and entropy: SAC and CrossQ."""

    actor_params = "actor_network_params"

    def __init__(self, loss: Any) -> None:
        super().__init__(loss)
        if not hasattr(loss.actor_network, "get_dist"):
            raise TypeError(
                f"the entropy term of {type(loss).__name__} needs log-probabilities, which "
                f"{type(loss.actor_network).__name__} does not give; make the actor a "
                "ProbabilisticActor, or use TD3Loss"
            )

    @property
    def alpha(self) -> Tensor:
        """Temperature."""
        return self.loss._alpha

    def propose(self, tensordict: TensorDictBase) -> Tensor:
        """Write a sample of the actor; returns alpha log pi, [*]."""
        actor, params = self.loss.actor_network, getattr(self.loss, self.actor_params)
        with (
            set_exploration_type(ExplorationType.RANDOM),
            with_params(params, actor),
        ):
            distribution = actor.get_dist(tensordict)
            action = distribution.rsample()
        tensordict.set(OWN_ACTION, action)
        return self.alpha * distribution.log_prob(action)


class SACAdapter(StochasticAdapter):
    """SAC without a value network."""

    def __init__(self, loss: Any) -> None:
        super().__init__(loss)
        if getattr(loss, "_version", 2) == 1:
            raise ValueError(
                "SACLoss with a value_network bootstraps from V(s'), which knows no actions; "
                "construct it without value_network"
            )


class TQCAdapter(SACAdapter):
    """TQC: pools the atoms of all critics and keeps the lowest."""

    @property
    def acting_reduction(self) -> Reduction:
        """Mean of the atoms that a target would keep."""
        return TruncatedMean(self.loss.top_quantiles_to_drop_per_net)

    def _reduce(self, values: Tensor, width: int | None) -> Tensor:
        """Lowest atoms of all critics, [*, N, V'] of [*, N, E, V]."""
        return lowest_atoms(values, self.loss.top_quantiles_to_drop_per_net)[..., :width]


def lowest_atoms(values: Tensor, dropped: int) -> Tensor:
    """Atoms of E critics, pooled and sorted, without the highest ones.

    Args:
        values: float [*, E, V].
        dropped: number of atoms to drop for each critic.

    Returns:
        float [*, E * (V - dropped)].
    """
    kept = values.shape[-2] * (values.shape[-1] - dropped)
    return values.flatten(-2).sort(-1).values[..., :kept]


class TruncatedMean:
    """Mean over the atoms of E critics without the highest ones.

    Args:
        dropped: number of atoms to drop for each critic.
    """

    def __init__(self, dropped: int) -> None:
        self.dropped = dropped

    def __call__(self, values: Tensor) -> Tensor:
        """Mean [*, N] of atoms [*, N, E, V]."""
        return lowest_atoms(values, self.dropped).mean(-1)


class CrossQAdapter(StochasticAdapter):
    """CrossQ: no target critics; proposals must not move the batch statistics."""

    def _values(self, tensordict: TensorDictBase, candidates: Tensor) -> Tensor:
        """Values by the online critics, with running batch statistics."""
        with _frozen_statistics(self.critic):
            return self._stacked_values(
                tensordict, candidates, self.loss.qvalue_network_params.data
            )


class REDQAdapter(StochasticAdapter):
    """REDQ: the minimum over the subset of critics that the loss drew."""

    actor_params = "target_actor_network_params"

    def __init__(self, loss: Any) -> None:
        super().__init__(loss)
        _record_subset(loss)

    @property
    def alpha(self) -> Tensor:
        """Temperature."""
        return self.loss.alpha

    @property
    def num_min(self) -> int:
        """Size of the drawn subset."""
        return self.loss.sub_sample_len

    @property
    def steps_to_next_obs(self) -> Tensor | None:
        """Steps of n-step transitions, which TorchRL's REDQ drops."""
        return self.loss.steps_to_next_obs

    def _values(self, tensordict: TensorDictBase, candidates: Tensor) -> Tensor:
        """Values by the drawn subset of target critics, [*, N, K, 1]."""
        return self._stacked_values(tensordict, candidates, self.loss.drawn_qvalue_params)


class TD3Adapter(LossAdapter):
    """TD3: deterministic target actor with clipped noise."""

    @property
    def bounds(self) -> Bounds | None:
        """(low, high) of the actions."""
        return self.loss.min_action, self.loss.max_action

    def propose(self, tensordict: TensorDictBase) -> float:
        """Write the target actor's action with clipped noise."""
        action = _target_action(self.loss, tensordict)
        noise = (torch.randn_like(action) * self.loss.policy_noise).clamp(
            -self.loss.noise_clip, self.loss.noise_clip
        )
        bounds = self.loss.min_action, self.loss.max_action
        tensordict.set(OWN_ACTION, clip(action + noise, bounds))
        return 0.0


class DDPGAdapter(LossAdapter):
    """DDPG: one critic, named ``value_network``, and the target actor."""

    network = "value_network"
    gives_next_value = False  # TorchRL's estimator itself runs actor and critic

    @property
    def action_key(self) -> NestedKey:
        """Key of the action: that of the actor."""
        return require_action_output(self.loss.actor_network)

    @property
    def num_min(self) -> int:
        """One critic."""
        return 1

    def propose(self, tensordict: TensorDictBase) -> float:
        """Write the target actor's action."""
        tensordict.set(OWN_ACTION, _target_action(self.loss, tensordict))
        return 0.0

    def acting_critics(self, *, target: bool = False) -> CriticEnsembleBase:
        """Online or target critic in eval mode, by reference."""
        critic = tied_copy(self.critic).eval()
        if target:
            hold_by_reference(critic, self.loss.target_value_network_params)
        return SeparateCritics([critic], action_key=self.action_key)

    def _values(self, tensordict: TensorDictBase, candidates: Tensor) -> Tensor:
        """Values by the target critic, [*, N, 1, 1]."""
        critic, key = self.critic, self.action_key
        observations = [name for name in critic.in_keys if name != key]
        inputs = candidate_inputs(tensordict, observations, candidates, key)
        params = self.loss.target_value_network_params
        with with_params(params, critic):
            values = critic(inputs).get(self.loss.tensor_keys.state_action_value)
        return values.unsqueeze(-2)


def hold_by_reference(module: nn.Module, params: TensorDictBase) -> None:
    """Make tensors of target parameters the module's own, as buffers: targets are not trained.

    As parameters they would be other tensors, which share memory with the targets until
    ``loss.to(...)`` moves these.

    Args:
        module: module whose parameters and buffers are replaced.
        params: tensors by nested names, all of the module's.
    """
    for key, tensor in params.items(include_nested=True, leaves_only=True):
        *path, name = (key,) if isinstance(key, str) else key
        owner = module.get_submodule(".".join(path))
        if name in owner._parameters:
            delattr(owner, name)
        owner.register_buffer(name, tensor)


def _target_action(loss: Any, tensordict: TensorDictBase) -> Tensor:
    """Action [*, A] of a loss's target actor."""
    actor = loss.actor_network
    output = run_policy(actor, loss.target_actor_network_params, tensordict)
    return output.get(require_action_output(actor))


ADAPTERS: dict[type[LossModule], type[LossAdapter]] = {
    TQCLoss: TQCAdapter,
    SACLoss: SACAdapter,
    CrossQLoss: CrossQAdapter,
    REDQLoss: REDQAdapter,
    TD3Loss: TD3Adapter,
    DDPGLoss: DDPGAdapter,
}


def adapter_of(loss: LossModule) -> LossAdapter:
    """Adapter of a loss, by its class or the nearest base class in ``ADAPTERS``.

    Raises:
        TypeError: the loss is not supported.
    """
    for kind in type(loss).__mro__:
        if kind in ADAPTERS:
            return ADAPTERS[kind](loss)
    names = sorted(kind.__name__ for kind in ADAPTERS)
    raise TypeError(
        f"{type(loss).__name__} is not supported; supported are {', '.join(names)} and their "
        "subclasses; add another to ibrl_torchrl.objectives.adapters.ADAPTERS"
    )


class _SubsetREDQLoss(REDQLoss):
    """REDQ that keeps the subset which it drew, and the steps of n-step transitions.

    TorchRL's REDQ holds the subset in a local variable and drops ``steps_to_next_obs``, so that
    n-step targets would be discounted by gamma^1.
    """

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        key = self.value_estimator.tensor_keys.steps_to_next_obs
        self.__dict__["steps_to_next_obs"] = tensordict.get(key, None)
        return super().forward(tensordict)

    def _qvalue_params_cat(self, selected_q_params: TensorDictBase) -> TensorDictBase:
        self.__dict__["drawn_qvalue_params"] = selected_q_params
        return super()._qvalue_params_cat(selected_q_params)


def _record_subset(loss: REDQLoss) -> None:
    """Change a loss's class to the one that keeps its subset, as PyTorch's parametrizations do."""
    if isinstance(loss, _SubsetREDQLoss):
        return
    if type(loss) is REDQLoss:
        loss.__class__ = _SubsetREDQLoss
    else:
        kind = type(loss)
        loss.__class__ = type(kind.__name__, (_SubsetREDQLoss, kind), {})


@contextmanager
def _frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Evaluate batch normalisation with running statistics; dropout stays as it is."""
    kinds = (nn.modules.batchnorm._BatchNorm, BatchRenorm1d)
    norms = [module for module in network.modules() if isinstance(module, kinds)]
    training = [module.training for module in norms]
    try:
        for module in norms:
            module.eval()
        yield
    finally:
        for module, mode in zip(norms, training, strict=True):
            module.train(mode)
