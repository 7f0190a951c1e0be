"""TD3 loss whose TD target maximises over the proposals of RL actor and imitation policies."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from tensordict import TensorDict, TensorDictBase, TensorDictParams
from tensordict.nn import TensorDictModuleBase, dispatch
from tensordict.utils import NestedKey
from torch import Tensor, nn
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.objectives import LossModule, ValueEstimators
from torchrl.objectives.utils import dispatch_value_estimator

from ibrl_torchrl import keys
from ibrl_torchrl.modules.critics.state import CriticEnsemble
from ibrl_torchrl.modules.frozen import CachedProposal, FrozenPolicy
from ibrl_torchrl.modules.selector import IBRLSelector, SelectionMode
from ibrl_torchrl.objectives.terms import LossTerm


class IBRLTD3Loss(LossModule):
    """Critic and actor losses of IBRL (arXiv 2311.02198, Algorithm 1).

    With K a random subset of ``num_min`` of the E critics, drawn once per batch, the TD target is::

        y = r + gamma^k (1 - terminated) max_{a in {a_RL, a_IL, ...}} min_{i in K} Q'_i(s', a)
        a_RL = clip(pi'(s') + clip(eps, -noise_clip, noise_clip), -1, 1),  eps ~ N(0, policy_noise)

    the critic loss is the mean squared error to y, summed over all E critics, and the actor loss
    ``-min_{i in E} Q_i(s, pi(s))``. The target value is the ``chosen_value`` of an
    :class:`~ibrl_torchrl.modules.IBRLSelector` over the proposals at s', without a second forward
    pass of the critics. Without proposals this is TD3 with a critic ensemble.

    The loss owns the parameters of actor and critics and all target parameters. Dropout follows
    the train or eval flag of the actor that was passed in: leave it in train mode and act with a
    :func:`~ibrl_torchrl.modules.tied_copy` in eval mode.

    From pixels, actor and critics read the features of a shared ``encoder``. As in the original
    code, only the critic loss trains it and it has no target parameters. s and s' are encoded in
    separate forward passes, with independent random shifts if the encoder augments in train
    mode. The actor loss reuses the features of s.

    Args:
        actor_network: writes the RL action float [*, A] in [-1, 1].
        qvalue_network: critic ensemble, writes values float [*, E].
        proposals: frozen policies, or their cached actions, with distinct keys; default none.
        encoder: reads images and writes the features that actor and critics read; None (default)
            if both read observations directly.
        bootstrap: how the target chooses among the proposals: ``"greedy"`` (paper, default),
            ``"soft"`` or ``"epsilon"``; see :class:`~ibrl_torchrl.modules.IBRLSelector`.
        beta: inverse temperature of the soft choice, default 10.
        epsilon: probability of a random choice in epsilon mode, default 0.1.
        num_min: size of the random subset K, default 2.
        policy_noise: standard deviation of the noise on RL actions, in action units, default 0.1.
        noise_clip: bound of that noise, in action units, default 0.3.
        noisy_actor_loss: add the same clipped noise to pi(s) in the actor loss, as the original
            code does, with a straight-through gradient at the action bounds. Default False, as in
            the paper.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"`` over the batch.
        use_prioritized_weights: weight the critic loss by ``priority_weight``: ``"auto"``
            (default: if the batch has it), True or False. The actor loss is never weighted.

    ``forward`` returns both losses and their metrics; ``qvalue_loss`` and ``actor_loss`` return one
    loss and its metrics each. The critic loss writes into the batch the priority ``td_error`` [*],
    the mean absolute TD error over the critics, and the encoder's features, detached, for the actor
    loss; nothing else in the batch changes. Transitions of k steps carry ``steps_to_next_obs``
    int64 [*, 1]; ``make_value_estimator(gamma=...)`` sets the discount per step.

    Raises:
        ValueError: an argument is out of range, or two proposals write the same key.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> from ibrl_torchrl.modules import Normalize, StateActor, StateCriticEnsemble
        >>> scale = Normalize.identity(4)
        >>> actor = TensorDictModule(StateActor(scale, 2, hidden=[8]), ["state"], ["rl_action"])
        >>> bc = TensorDictModule(StateActor(scale, 2, hidden=[8]), ["state"], ["bc_action"])
        >>> critic = CriticEnsemble(StateCriticEnsemble(scale, 2, hidden=[8]), ["state", "action"])
        >>> loss = IBRLTD3Loss(actor, critic, [FrozenPolicy(bc)])
        >>> _ = loss.make_value_estimator(gamma=0.99)
        >>> from torchrl.objectives import SoftUpdate
        >>> targets = SoftUpdate(loss, tau=0.01)
        >>> batch = TensorDict(
        ...     state=torch.zeros(3, 4), action=torch.zeros(3, 2),
        ...     next=TensorDict(state=torch.zeros(3, 4), reward=torch.zeros(3, 1),
        ...                     done=torch.zeros(3, 1).bool(), terminated=torch.zeros(3, 1).bool()),
        ...     batch_size=[3])
        >>> value, info = loss.qvalue_loss(batch)
        >>> value.shape, info["pred_value"].shape, batch["td_error"].shape
        (torch.Size([]), torch.Size([3, 5]), torch.Size([3]))
        >>> value.backward()  # the encoder, if any, and the critics
        >>> targets.step()
    """

    @dataclass
    class _AcceptedKeys:
        """Configurable TensorDict keys, see ``set_keys``.

        Attributes:
            action: executed action, input of the critics. Default ``"action"``.
            priority: output, priority of a transition. Default ``"td_error"``.
            reward, done, terminated: results of the step, under ``"next"``.
            priority_weight: importance weight of prioritised replay. Default
                ``"priority_weight"``.
            steps_to_next_obs: k of a k-step transition. Default ``"steps_to_next_obs"``.
        """

        action: NestedKey = keys.ACTION
        priority: NestedKey = keys.PRIORITY
        reward: NestedKey = keys.REWARD
        done: NestedKey = keys.DONE
        terminated: NestedKey = keys.TERMINATED
        priority_weight: NestedKey = keys.PRIORITY_WEIGHT
        steps_to_next_obs: NestedKey = keys.STEPS_TO_NEXT_OBS

    tensor_keys: _AcceptedKeys
    default_keys = _AcceptedKeys
    default_value_estimator = ValueEstimators.TD0
    out_keys = [
        "loss_qvalue",
        "loss_actor",
        "pred_value",
        "target_value",
        "next_state_value",
        "actor_value",
        "next_proposal",
    ]

    actor_network: TensorDictModuleBase
    actor_network_params: TensorDictParams
    target_actor_network_params: TensorDictParams
    qvalue_network: CriticEnsemble
    qvalue_network_params: TensorDictParams
    target_qvalue_network_params: TensorDictParams

    def __init__(
        self,
        actor_network: TensorDictModuleBase,
        qvalue_network: CriticEnsemble,
        proposals: Sequence[FrozenPolicy | CachedProposal] = (),
        *,
        encoder: TensorDictModuleBase | None = None,
        bootstrap: SelectionMode = "greedy",
        beta: float = 10.0,
        epsilon: float = 0.1,
        num_min: int = 2,
        policy_noise: float = 0.1,
        noise_clip: float = 0.3,
        noisy_actor_loss: bool = False,
        reduction: Literal["mean", "sum", "none"] = "mean",
        use_prioritized_weights: bool | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        if policy_noise < 0 or noise_clip < 0:
            raise ValueError(
                f"policy_noise={policy_noise} and noise_clip={noise_clip} must not be negative"
            )
        action_keys = [actor_network.out_keys[0], *(policy.out_keys[0] for policy in proposals)]
        if len({*action_keys}) < len(action_keys):
            raise ValueError(f"actor and proposals must write distinct keys, got {action_keys}")
        self.convert_to_functional(actor_network, "actor_network", create_target_params=True)
        self.convert_to_functional(qvalue_network, "qvalue_network", create_target_params=True)
        self.proposals = nn.ModuleList(proposals)
        self.encoder = encoder or _IdentityEncoder()
        # Not a registered child, as TorchRL does with the networks themselves: the selector refers
        # to the critic module, whose parameters this loss already owns.
        self.__dict__["selector"] = IBRLSelector(
            qvalue_network, action_keys, mode=bootstrap, beta=beta, epsilon=epsilon, num_min=num_min
        )
        self.policy_noise = policy_noise
        self.noise_clip = noise_clip
        self._noisy_actor = noisy_actor_loss
        self.reduction = reduction
        self.use_prioritized_weights = use_prioritized_weights
        self._proposal_in_keys: list[NestedKey] = [key for p in proposals for key in p.in_keys]
        self._in_keys: list[NestedKey] | None = None

    @property
    def in_keys(self) -> list[NestedKey]:
        """Required keys of a batch; ``steps_to_next_obs`` and ``priority_weight`` are optional."""
        if self._in_keys is None:
            self._in_keys = self._batch_keys()
        return self._in_keys

    @in_keys.setter
    def in_keys(self, values: list[NestedKey]) -> None:
        self._in_keys = values

    def _batch_keys(self) -> list[NestedKey]:
        """Required keys of a batch."""
        names = self.tensor_keys
        return [
            names.action,
            *self._obs_keys,
            *((keys.NEXT, key) for key in self._next_obs_keys),
            (keys.NEXT, names.reward),
            (keys.NEXT, names.done),
            (keys.NEXT, names.terminated),
        ]

    @property
    def _obs_keys(self) -> list[NestedKey]:
        """Observation keys of s that encoder, actor and critics read."""
        inputs = dict.fromkeys(
            [
                *self.encoder.in_keys,
                *self.actor_network.in_keys,
                *self.qvalue_network.observation_keys,
            ]
        )
        return [key for key in inputs if key not in self.encoder.out_keys]

    @property
    def _next_obs_keys(self) -> list[NestedKey]:
        """Keys of s' that encoder, actor, critics and proposals read."""
        return [*dict.fromkeys([*self._obs_keys, *self._proposal_in_keys])]

    def qvalue_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """Critic loss of a batch [B].

        Returns:
            The loss, float scalar ([B] without reduction), and detached metrics: ``pred_value``
            float [B, E], ``target_value`` float [B, 1], ``next_state_value`` float [B, 1] and
            ``next_proposal`` int64 [B], the index of the proposal that the target chose.
        """
        names = self.tensor_keys
        next_choice = self._bootstrap(tensordict)
        next_value = next_choice.get(keys.CHOSEN_VALUE)
        target = self.value_estimator.value_estimate(
            tensordict.copy(), next_value=next_value
        ).detach()
        encoded = self.encoder(tensordict.select(*self._obs_keys))
        for key in self.encoder.out_keys:
            tensordict.set(key, encoded.get(key).detach())
        critic_input = encoded.select(*self.qvalue_network.observation_keys)
        critic_input.set(keys.ACTION, tensordict.get(names.action))
        with _with_params(self.qvalue_network_params, self.qvalue_network):
            predicted = self._values(critic_input)  # [B, E]
        error = predicted - target
        tensordict.set(names.priority, error.detach().abs().mean(-1))
        loss = self._reduce_loss(
            error.pow(2).sum(-1),
            tensordict=tensordict,
            weights=self._maybe_get_priority_weight(tensordict),
        )
        return loss, {
            "pred_value": predicted.detach(),
            "target_value": target,
            "next_state_value": next_value,
            "next_proposal": next_choice.get(keys.PROPOSAL),
        }

    def actor_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """Actor loss of a batch [B], with gradients for the actor only.

        Reuses the features that the critic loss wrote into the batch, or computes them.

        Returns:
            The loss, float scalar ([B] without reduction), and the detached metric
            ``actor_value`` float [B].
        """
        obs = self._encode(tensordict)
        action = self._actor_action(self.actor_network, obs)
        if self._noisy_actor:
            action = self._add_noise(action)
        value = self._min_q(obs, action)
        loss = self._reduce_loss(-value, tensordict=tensordict)
        return loss, {"actor_value": value.detach()}

    def terms(self) -> dict[str, LossTerm]:
        """Terms to minimise: ``"loss_qvalue"`` on every batch, ``"loss_actor"`` once per round.

        Returns:
            Terms by name. No parameter is in two terms.
        """
        critic = [*self.encoder.parameters(), *self.qvalue_network_params.parameters()]
        actor = [*self.actor_network_params.parameters()]
        return {
            "loss_qvalue": LossTerm(self.qvalue_loss, critic, ("qvalue_network",), True),
            "loss_actor": LossTerm(self.actor_loss, actor, ("actor_network",), False),
        }

    @property
    def metrics(self) -> list[str]:
        """Names of the scalars of an update that a learner can log, in the order of columns."""
        return [key for key in self.out_keys if key != "next_proposal"]

    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Compute both losses of a batch [B], and their metrics averaged over the batch."""
        loss_qvalue, critic_info = self.qvalue_loss(tensordict)
        loss_actor, actor_info = self.actor_loss(tensordict)
        info = {key: value.float().mean() for key, value in (actor_info | critic_info).items()}
        return TensorDict({"loss_actor": loss_actor, "loss_qvalue": loss_qvalue, **info})

    @torch.no_grad()
    def _bootstrap(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Propose actions at s' and choose among them by the target critics."""
        next_td = self.encoder(tensordict.get(keys.NEXT).select(*self._next_obs_keys))
        actor_key = self.actor_network.out_keys[0]
        with _with_params(self.target_actor_network_params, self.actor_network):
            self.actor_network(next_td)
        next_td.set(actor_key, self._add_noise(next_td.get(actor_key)))
        for policy in self.proposals:
            policy(next_td)
        # TorchRL calls losses under DETERMINISTIC, but the target's subset and soft choice are
        # random.
        with (
            set_exploration_type(ExplorationType.RANDOM),
            _with_params(self.target_qvalue_network_params, self.qvalue_network),
        ):
            return self.selector(next_td)

    def _add_noise(self, action: Tensor) -> Tensor:
        """Add clipped Gaussian noise to actions [B, A], with a straight-through gradient."""
        noise = (torch.randn_like(action) * self.policy_noise).clamp(
            -self.noise_clip, self.noise_clip
        )
        noisy = action + noise
        # Straight-through: the value of the clipped action, the gradient of the unclipped one.
        return noisy + (noisy.clamp(-1, 1) - noisy).detach()

    def _encode(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Observations with features, without a gradient; reuses features in the batch."""
        if all(key in tensordict for key in self.encoder.out_keys):
            return tensordict
        with torch.no_grad():
            return self.encoder(tensordict.select(*self._obs_keys))

    def _actor_action(self, network: TensorDictModuleBase, obs: TensorDictBase) -> Tensor:
        """Action [B, A] of ``network``, the actor or a tied copy of it."""
        with _with_params(self.actor_network_params, network):
            return network(obs.select(*network.in_keys)).get(network.out_keys[0])

    def _min_q(self, obs: TensorDictBase, action: Tensor) -> Tensor:
        """Minimum over all critics [B], without gradients for their parameters."""
        critic_input = obs.select(*self.qvalue_network.observation_keys)
        critic_input.set(keys.ACTION, action)
        with _with_params(self.qvalue_network_params.detach(), self.qvalue_network):
            return self._values(critic_input).amin(-1)

    def _values(self, critic_input: TensorDictBase) -> Tensor:
        """Values [B, E] of all critics."""
        return self.qvalue_network(critic_input).get(self.qvalue_network.out_keys[0])

    def _forward_value_estimator_keys(self, **kwargs: NestedKey) -> None:
        if self._value_estimator is not None:
            self._value_estimator.set_keys(**self._value_estimator_keys)
        self._in_keys = None

    @property
    def _value_estimator_keys(self) -> dict[str, NestedKey]:
        names = self.tensor_keys
        return {
            "reward": names.reward,
            "done": names.done,
            "terminated": names.terminated,
            "steps_to_next_obs": names.steps_to_next_obs,
        }

    def make_value_estimator(
        self, value_type: ValueEstimators | None = None, **hyperparams: float
    ) -> IBRLTD3Loss:
        """Set the value estimator of the TD target.

        Args:
            value_type: only ``ValueEstimators.TD0`` (default) is supported.
            **hyperparams: ``gamma``, the discount per step, default 0.99.

        Returns:
            The loss itself.
        """
        value_type, hyperparams = self._prepare_value_estimator_kwargs(value_type, **hyperparams)
        if value_type is not None:
            dispatch_value_estimator(
                self,
                value_type,
                supported=(ValueEstimators.TD0,),
                tensor_keys=self._value_estimator_keys,
                value_network=None,
                **hyperparams,
            )
        return self


class _IdentityEncoder(TensorDictModuleBase):
    """Encoder that leaves observations unchanged, for losses from states."""

    in_keys: list[NestedKey] = []
    out_keys: list[NestedKey] = []

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Return the input."""
        return tensordict


def _with_params(params: TensorDictBase, network: nn.Module) -> AbstractContextManager:
    """Context manager that runs ``network`` with other parameters.

    ``preserve_module_state=False``: by default tensordict would turn the plain tensors of targets
    into trainable parameters.
    """
    return params.to_module(network, preserve_module_state=False)
