"""TD3 loss whose TD target maximises over the proposals of RL actor and imitation policies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from tensordict import TensorDict, TensorDictBase, TensorDictParams
from tensordict.nn import TensorDictModuleBase, dispatch
from tensordict.utils import NestedKey, unravel_key
from torch import Tensor, nn
from torchrl.data import Bounded, Composite, TensorSpec
from torchrl.objectives import LossModule, ValueEstimators
from torchrl.objectives.utils import dispatch_value_estimator
from torchrl.objectives.value import TD0Estimator, ValueEstimatorBase

from ibrl_torchrl import keys
from ibrl_torchrl.modules.bounds import Bounds, clip_straight_through, require_bounds
from ibrl_torchrl.modules.choice import ProposalChoice, SelectionMode
from ibrl_torchrl.modules.critics.base import (
    CriticEnsembleBase,
    CriticReduction,
    reduce_critics,
    require_reduction,
)
from ibrl_torchrl.modules.critics.separate import SeparateCritics
from ibrl_torchrl.modules.frozen import require_action_output
from ibrl_torchrl.modules.gates import Gate
from ibrl_torchrl.objectives.adapters import ADAPTERS
from ibrl_torchrl.objectives.bootstrap import (
    ProposalValueEstimator,
    acting_modes,
    require_proposal,
    required_inputs,
)
from ibrl_torchrl.objectives.functional import run_policy, with_params
from ibrl_torchrl.objectives.ibrl_td3_adapter import IBRLTD3Adapter
from ibrl_torchrl.objectives.terms import LossTerm

DEFAULT_GAMMA = 0.99  # as TorchRL's


class IBRLTD3Loss(LossModule):
    """Critic and actor losses of IBRL (arXiv 2311.02198, Algorithm 1).

    With K a random subset of ``num_min`` of the E critics, drawn once per batch, the TD target is::

        y = r + gamma^k (1 - terminated) max_{a in {a_RL, a_IL, ...}} min_{i in K} Q'_i(s', a)
        a_RL = clip(pi'(s') + clip(eps, -noise_clip, noise_clip), low, high)
        eps ~ N(0, policy_noise)

    the critic loss is the mean squared error to y (with :class:`~ibrl_torchrl.modules.HLGauss` the
    cross-entropy), summed over all E critics, and the actor loss ``-min_{i in E} Q_i(s, pi(s))``.
    The value found while choosing is the target value, without a second forward pass of the critics
    (:class:`ProposalValueEstimator`). Without proposals this is TD3 with a critic ensemble.

    The loss owns the parameters of actor and critics and all target parameters. Dropout follows
    the train or eval flag of the actor that was passed in: leave it in train mode and act with a
    :func:`~ibrl_torchrl.modules.tied_copy` in eval mode.

    From pixels, actor and critics read the features of a shared ``encoder``. As in the original
    code, only the critic loss trains it and it has no target parameters. s and s' are encoded in
    separate forward passes, with independent random shifts if the encoder augments in train
    mode. The actor loss reuses the features of s.

    The actor may write several proposals, each trained by its own term of the actor loss: an RL
    action and a residual (edit) of an imitation action, say. An actor that reads an imitation
    policy's action (:class:`~ibrl_torchrl.modules.ResidualActor`) finds it, as the proposals run
    first. Where that is a set of candidates [*, n, A], the target edits all of them and the actor
    loss one at random.

    Args:
        actor_network: writes the RL action float [*, A]; stochastic actors are sampled.
        qvalue_network: critic ensemble that writes values float [*, E], or critics of TorchRL that
            write a value float [*, 1] each: one module (see ``num_qvalue_nets``) or a list.
        proposals: frozen policies, or their cached actions, each a float [*, A] or a set of
            candidates [*, n, A], with distinct keys; default none.
        encoder: reads images and writes the features that actor and critics read; None (default)
            if both read observations directly.
        bootstrap: how the target chooses among the proposals: ``"greedy"`` (paper, default),
            ``"soft"`` or ``"epsilon"``; see :class:`~ibrl_torchrl.modules.IBRLSelector`.
        beta: inverse temperature of the soft choice, default 10.
        epsilon: probability of a random choice in epsilon mode, default 0.1.
        num_min: size of the random subset K, default 2.
        target_reduction: ``"min"`` (default, paper) or ``"mean"`` over K, of choice and value in
            the target.
        actor_reduction: ``"min"`` (default, paper) or ``"mean"`` (REDQ, RLPD) over all critics in
            the actor loss.
        policy_noise: standard deviation of the noise on RL actions, in action units, default 0.1.
        noise_clip: bound of that noise, in action units, default 0.3.
        noisy_actor_loss: add the same clipped noise to pi(s) in the actor loss, as the original
            code does, with a straight-through gradient at the action bounds. Default False, as in
            the paper.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"`` over the batch.
        use_prioritized_weights: weight the critic loss by ``priority_weight``: ``"auto"``
            (default: if the batch has it), True or False. The actor loss is never weighted.
        action_spec: bounded action space, for (low, high); None (default): see ``bounds``.
        bounds: (low, high) of the actions, numbers or float [A]; default (-1, 1).
        actor_keys: keys of the actor's proposals; None (default): its only key, or the sample of
            its distribution.
        num_qvalue_nets: number of independently initialised copies of a critic that is no
            ensemble; default 2.
        gate: cautious choice in the target, see :class:`~ibrl_torchrl.modules.Gate`; None
            (default): none.
        exploration_network: second actor, which the critics alone train: a policy for episodes that
            explore. Writes one action float [*, A]. The target does without it, as a random actor
            is overrated, until :meth:`set_exploration_bootstrap`. None (default): there is none.

    ``forward`` returns both losses and their metrics; ``qvalue_loss`` and ``actor_loss`` return one
    loss and its metrics each. The critic loss writes into the batch the priority ``td_error`` [*],
    the mean absolute TD error over the critics, and the encoder's features, detached, for the actor
    loss; nothing else in the batch changes. Transitions of k steps carry ``steps_to_next_obs``
    int64 [*, 1]; ``make_value_estimator(gamma=...)`` sets the discount per step.

    Raises:
        TypeError: a proposal or the actor is no TensorDict module.
        ValueError: an argument is out of range, two proposals write the same key, or a proposal
            writes several keys, is trainable or recurrent.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> from ibrl_torchrl.modules import CriticEnsemble, FrozenPolicy, Normalize
        >>> from ibrl_torchrl.modules import StateActor, StateCriticEnsemble
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
    exploration_network: TensorDictModuleBase
    exploration_network_params: TensorDictParams
    target_exploration_network_params: TensorDictParams
    qvalue_network: CriticEnsembleBase
    qvalue_network_params: TensorDictParams
    target_qvalue_network_params: TensorDictParams
    low: Tensor
    high: Tensor

    def __init__(
        self,
        actor_network: TensorDictModuleBase,
        qvalue_network: CriticEnsembleBase | TensorDictModuleBase | Sequence[TensorDictModuleBase],
        proposals: Sequence[TensorDictModuleBase] = (),
        *,
        encoder: TensorDictModuleBase | None = None,
        bootstrap: SelectionMode = "greedy",
        beta: float = 10.0,
        epsilon: float = 0.1,
        num_min: int = 2,
        target_reduction: CriticReduction = "min",
        actor_reduction: CriticReduction = "min",
        policy_noise: float = 0.1,
        noise_clip: float = 0.3,
        noisy_actor_loss: bool = False,
        reduction: Literal["mean", "sum", "none"] | None = "mean",
        use_prioritized_weights: bool | Literal["auto"] = "auto",
        action_spec: TensorSpec | None = None,
        bounds: Bounds | None = None,
        actor_keys: Sequence[NestedKey] | None = None,
        num_qvalue_nets: int = 2,
        gate: Gate | None = None,
        exploration_network: TensorDictModuleBase | None = None,
    ) -> None:
        super().__init__()
        if policy_noise < 0 or noise_clip < 0:
            raise ValueError(
                f"policy_noise={policy_noise} and noise_clip={noise_clip} must not be negative"
            )
        require_reduction("target_reduction", target_reduction)
        require_reduction("actor_reduction", actor_reduction)
        self.actor_keys = (
            [require_action_output(actor_network)] if actor_keys is None else [*actor_keys]
        )
        missing = [key for key in self.actor_keys if key not in actor_network.out_keys]
        if missing or not self.actor_keys:
            raise ValueError(
                f"actor_keys must be keys that the actor writes, {[*actor_network.out_keys]}, "
                f"got {self.actor_keys}"
            )
        critic = _critic_ensemble(qvalue_network, num_qvalue_nets, self.actor_keys)
        if {*_trainable(actor_network)}.intersection(_trainable(critic)):
            raise ValueError(
                "actor and critics share trainable parameters, which both losses would train; "
                "pass the shared layers as encoder=..."
            )
        if not 1 <= num_min <= critic.num_critics:
            raise ValueError(
                f"num_min must be between 1 and the {critic.num_critics} critics, got {num_min}"
            )
        self.action_keys = [*self.actor_keys, *map(require_proposal, proposals)]
        self._explores = exploration_network is not None
        self._bootstraps_exploration = False
        if exploration_network is not None:
            self.exploration_key = require_action_output(exploration_network)
            self.action_keys.append(self.exploration_key)
        if len({*self.action_keys}) < len(self.action_keys):
            raise ValueError(
                f"actor and proposals must write distinct keys, got {self.action_keys}"
            )
        self.convert_to_functional(actor_network, "actor_network", create_target_params=True)
        self.convert_to_functional(critic, "qvalue_network", create_target_params=True)
        if exploration_network is not None:
            self.convert_to_functional(
                exploration_network, "exploration_network", create_target_params=True
            )
            self.out_keys = [*self.out_keys, "loss_exploration"]
        self.encoder = encoder or _IdentityEncoder()
        self.tensor_keys.action = critic.action_key
        low, high = _bounds(action_spec, bounds, critic.action_key)
        require_bounds(low, high)
        weights = self.qvalue_network_params.values(include_nested=True, leaves_only=True)
        device = next((tensor.device for tensor in weights), None)
        # Not part of the state: they describe the environment.
        self.register_buffer("low", low.to(device), persistent=False)
        self.register_buffer("high", high.to(device), persistent=False)
        self.num_min = num_min
        self.target_reduction = target_reduction
        self.actor_reduction = actor_reduction
        self.policy_noise = policy_noise
        self.noise_clip = noise_clip
        self._noisy_actor = noisy_actor_loss
        self.reduction = reduction or "mean"  # None is TorchRL's own default
        self.use_prioritized_weights = use_prioritized_weights
        self._in_keys: list[NestedKey] | None = None
        self._value_estimator = ProposalValueEstimator(
            IBRLTD3Adapter(self),
            TD0Estimator(gamma=DEFAULT_GAMMA, value_network=None),
            proposals,
            choice=ProposalChoice(bootstrap, beta=beta, epsilon=epsilon),
            gate=gate,
            choose_by="value",
        )

    @property
    def proposals(self) -> nn.ModuleList:
        """Frozen policies that propose in the target."""
        return self._value_estimator.proposals

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
        of_next = [*self._next_obs_keys, names.reward, names.done, names.terminated]
        return [
            names.action,
            *self._obs_keys,
            *(unravel_key((keys.NEXT, key)) for key in of_next),
        ]

    @property
    def _obs_keys(self) -> list[NestedKey]:
        """Observation keys of s that encoder, actor and critics read."""
        return self._inputs([*self._actor_inputs, *self._actors])

    @property
    def _next_obs_keys(self) -> list[NestedKey]:
        """Keys of s' that encoder, actor, critics and proposals read."""
        return self._inputs([*self.proposals, *self._actors])

    @property
    def _actors(self) -> list[TensorDictModuleBase]:
        """Trained policies."""
        return [self.actor_network, *([self.exploration_network] if self._explores else [])]

    def _inputs(self, modules: Iterable[Any]) -> list[NestedKey]:
        keys = required_inputs([self.encoder, *modules])
        of_critics = [
            key for key in self.qvalue_network.observation_keys if key not in self.encoder.out_keys
        ]
        return [*dict.fromkeys([*keys, *of_critics])]

    @property
    def _actor_inputs(self) -> list[Any]:
        """Proposals that the actor reads, such as the base action of a residual."""
        proposals: list[Any] = [*self.proposals]
        written = {key for policy in proposals for key in policy.out_keys}
        return proposals if written.intersection(self.actor_network.in_keys) else []

    def qvalue_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """Critic loss of a batch [B].

        Returns:
            The loss, float scalar ([B] without reduction), and detached metrics: ``pred_value``
            float [B, E], ``target_value`` float [B, 1], ``next_state_value`` float [B, 1] and
            ``next_proposal`` int64 [B], the index of the proposal that the target chose.
        """
        names = self.tensor_keys
        estimator = self._value_estimator
        target = estimator.value_estimate(tensordict.copy()).detach()
        encoded = self.encoder(tensordict.select(*self._obs_keys))
        for key in self.encoder.out_keys:
            tensordict.set(key, encoded.get(key).detach())
        critic_input = encoded.select(*self.qvalue_network.observation_keys)
        critic_input.set(self.qvalue_network.action_key, tensordict.get(names.action))
        with with_params(self.qvalue_network_params, self.qvalue_network):
            predicted, losses = self.qvalue_network.regression(critic_input, target)  # [B, E]
        error = predicted.detach() - target
        tensordict.set(names.priority, error.abs().mean(-1))
        weights = self._maybe_get_priority_weight(tensordict)
        if weights is not None:  # [B, 1] would be broadcast against the losses [B]
            weights = weights.reshape(tensordict.batch_size)
        loss = self._reduce_loss(losses.sum(-1), tensordict=tensordict, weights=weights)
        return loss, {
            "pred_value": predicted.detach(),
            "target_value": target,
            "next_state_value": estimator.next_value,
            "next_proposal": estimator.next_proposal,
        }

    def actor_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """Actor loss of a batch [B], with gradients for the actor only.

        Reuses the features that the critic loss wrote into the batch, or computes them.

        Returns:
            The loss, float scalar ([B] without reduction), and the detached metric
            ``actor_value`` float [B].
        """
        obs = self._encode(tensordict)
        values = []
        for action in self._actor_actions(self.actor_network, obs):
            value = self._value_to_maximize(obs, action)
            values.append(value if value.ndim == tensordict.ndim else value.mean(-1))
        loss = self._reduce_loss(-sum(values[1:], values[0]), tensordict=tensordict)
        return loss, {"actor_value": torch.stack(values).mean(0).detach()}

    def exploration_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """Actor loss of ``exploration_network`` on a batch [B], with gradients for it only.

        Returns:
            The loss, float scalar ([B] without reduction), and no metrics.
        """
        obs = self._encode(tensordict)
        with acting_modes():
            output = run_policy(self.exploration_network, self.exploration_network_params, obs)
        value = self._value_to_maximize(obs, output.get(self.exploration_key))
        return self._reduce_loss(-value, tensordict=tensordict), {}

    def set_exploration_bootstrap(self, active: bool) -> None:
        """Set whether the target chooses among the exploration actor's action, too, as the last.

        Raises:
            ValueError: there is no ``exploration_network``.
        """
        if not self._explores:
            raise ValueError("the loss has no exploration_network")
        self._bootstraps_exploration = active

    def terms(self) -> dict[str, LossTerm]:
        """Terms to minimise: ``"loss_qvalue"`` on every batch, the actors' once per round.

        Returns:
            Terms by name: ``"loss_qvalue"``, ``"loss_actor"`` and, with an
            ``exploration_network``, ``"loss_exploration"``. No parameter is in two terms.
        """
        critic = _trainable(self.encoder, self.qvalue_network_params)
        actor = _trainable(self.actor_network_params)
        terms = {
            "loss_qvalue": LossTerm(self.qvalue_loss, critic, ("qvalue_network",), True),
            "loss_actor": LossTerm(self.actor_loss, actor, ("actor_network",), False),
        }
        if self._explores:
            second = _trainable(self.exploration_network_params)
            terms["loss_exploration"] = LossTerm(
                self.exploration_loss, second, ("exploration_network",), False
            )
        return terms

    @property
    def metrics(self) -> list[str]:
        """Names of the scalars of an update that a learner can log, in the order of columns."""
        return [key for key in self.out_keys if key != "next_proposal"]

    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Compute all losses of a batch [B], and their metrics averaged over the batch."""
        loss_qvalue, critic_info = self.qvalue_loss(tensordict)
        loss_actor, actor_info = self.actor_loss(tensordict)
        losses = {"loss_actor": loss_actor, "loss_qvalue": loss_qvalue}
        if self._explores:
            losses["loss_exploration"], _ = self.exploration_loss(tensordict)
        info = {key: value.float().mean() for key, value in (actor_info | critic_info).items()}
        return TensorDict({**losses, **info})

    def add_noise(self, action: Tensor) -> Tensor:
        """Add clipped Gaussian noise to actions [*, A], with a straight-through gradient."""
        noise = (torch.randn_like(action) * self.policy_noise).clamp(
            -self.noise_clip, self.noise_clip
        )
        return clip_straight_through(action + noise, (self.low, self.high))

    def _encode(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Observations with features, without a gradient; reuses features in the batch."""
        if all(tensordict.get(key, None) is not None for key in self.encoder.out_keys):
            return tensordict
        with torch.no_grad():
            return self.encoder(tensordict.select(*self._obs_keys))

    def _actor_actions(self, network: TensorDictModuleBase, obs: TensorDictBase) -> list[Tensor]:
        """Actions [B, A] of ``network``, the actor or a tied copy of it, for each of its keys."""
        with acting_modes():
            with torch.no_grad():
                obs = obs.copy() if self._actor_inputs else obs
                for policy in self._actor_inputs:
                    _one_candidate(policy(obs), policy.out_keys[0])
            output = run_policy(network, self.actor_network_params, obs)
        return [output.get(key) for key in self.actor_keys]

    def _value_to_maximize(self, obs: TensorDictBase, action: Tensor) -> Tensor:
        """Value of an actor's action, with the noise that the settings ask for."""
        return self._reduced_q(obs, self.add_noise(action) if self._noisy_actor else action)

    def _reduced_q(self, obs: TensorDictBase, action: Tensor) -> Tensor:
        """``actor_reduction`` over all critics [B], without gradients for their parameters."""
        with with_params(self.qvalue_network_params.detach(), self.qvalue_network):
            if action.ndim > obs.ndim + 1:  # candidates [B, n, A]
                values = self.qvalue_network.evaluate(obs, action)
                return reduce_critics(values, self.actor_reduction)
            critic_input = obs.select(*self.qvalue_network.observation_keys)
            critic_input.set(self.qvalue_network.action_key, action)
            return reduce_critics(self._values(critic_input), self.actor_reduction)

    def _values(self, critic_input: TensorDictBase) -> Tensor:
        """Values [B, E] of all critics."""
        return self.qvalue_network(critic_input).get(self.qvalue_network.out_keys[0])

    def _forward_value_estimator_keys(self, **kwargs: NestedKey) -> None:
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
        self,
        value_type: ValueEstimators | ValueEstimatorBase | None = None,
        **hyperparams: Any,
    ) -> IBRLTD3Loss:
        """Set the estimator of the TD target from rewards and chosen values.

        Args:
            value_type: ``ValueEstimators.TD0`` (default), ``TD1`` or ``TDLambda``, or an estimator.
                The latter two read batches of trajectories [B, T].
            **hyperparams: ``gamma``, the discount per step, default 0.99; ``lmbda`` of TD(lambda).

        Returns:
            The loss itself.
        """
        bootstrap = self._value_estimator
        kind, hyperparams = self._prepare_value_estimator_kwargs(value_type, **hyperparams)
        if kind is not None:
            dispatch_value_estimator(
                self,
                kind,
                supported=(ValueEstimators.TD0, ValueEstimators.TD1, ValueEstimators.TDLambda),
                tensor_keys=self._value_estimator_keys,
                value_network=None,
                **hyperparams,
            )
        # TorchRL has put the estimator in place of the one that wraps it.
        bootstrap.wrap(self._value_estimator, self)
        self._value_estimator = bootstrap
        bootstrap.set_keys(**self._value_estimator_keys)
        return self


ADAPTERS[IBRLTD3Loss] = IBRLTD3Adapter


class _IdentityEncoder(TensorDictModuleBase):
    """Encoder that leaves observations unchanged, for losses from states."""

    in_keys: list[NestedKey] = []
    out_keys: list[NestedKey] = []

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Return the input."""
        return tensordict


def _trainable(*modules: nn.Module) -> list[nn.Parameter]:
    """Parameters that optimisers train, without the statistics of normalisation."""
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def _critic_ensemble(
    critic: CriticEnsembleBase | TensorDictModuleBase | Sequence[TensorDictModuleBase],
    count: int,
    actor_keys: Sequence[NestedKey],
) -> CriticEnsembleBase:
    """Critics as one ensemble; those of TorchRL read ``"action"`` or the actor's key."""
    if isinstance(critic, CriticEnsembleBase):
        return critic
    first = critic if isinstance(critic, TensorDictModuleBase) else critic[0]
    read = [key for key in (keys.ACTION, *actor_keys) if key in first.in_keys]
    action_key = read[0] if read else keys.ACTION
    if isinstance(critic, TensorDictModuleBase):
        return SeparateCritics.copies(critic, count, action_key=action_key)
    return SeparateCritics([*critic], action_key=action_key)


def _bounds(
    spec: TensorSpec | None, bounds: Bounds | None, action_key: NestedKey
) -> tuple[Tensor, Tensor]:
    """(low, high) of the actions as tensors.

    Raises:
        ValueError: both are given, or the action space is not bounded.
    """
    if spec is not None and bounds is not None:
        raise ValueError("pass either action_spec or bounds, not both")
    if spec is not None:
        spec = spec[action_key] if isinstance(spec, Composite) else spec
        if not isinstance(spec, Bounded):
            raise ValueError(
                f"action_spec must be Bounded, got {type(spec).__name__}; pass bounds=(low, high)"
            )
        if spec.ndim > 1:
            raise ValueError(
                f"action_spec must be of one action, got the shape {[*spec.shape]}; pass "
                "env.action_spec_unbatched"
            )
        bounds = spec.space.low, spec.space.high
    low, high = bounds if bounds is not None else (-1.0, 1.0)
    return torch.as_tensor(low).clone(), torch.as_tensor(high).clone()


def _one_candidate(tensordict: TensorDictBase, key: NestedKey) -> None:
    """Replace a set of candidates [*, n, A] by one of them [*, 1, A], drawn for each row."""
    actions = tensordict.get(key)
    if actions.ndim - tensordict.ndim == 2 and actions.shape[-2] > 1:
        index = torch.randint(actions.shape[-2], actions.shape[:-2], device=actions.device)
        tensordict.set(key, torch.take_along_dim(actions, index[..., None, None], -2))
