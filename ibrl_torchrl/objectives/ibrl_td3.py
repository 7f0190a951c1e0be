"""The IBRL loss: TD3 whose target also considers what the imitation policy would do."""

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
    """Critic and actor losses of IBRL (paper, Algorithm 1).

    With K a random subset of ``num_min`` of the E critics, drawn once a batch, the TD target is::

        y = r + gamma^k (1 - terminated) max_{a in {a_RL, a_IL, ...}} min_{i in K} Q'_i(s', a)
        a_RL = clip(pi'(s') + clip(eps, -noise_clip, noise_clip), -1, 1),  eps ~ N(0, policy_noise)

    the critic loss the mean squared error to y summed over all E critics, and the actor loss
    ``-min_{i in E} Q_i(s, pi(s))``. An :class:`IBRLSelector` makes the choice in the target and the
    value it finds is the target value: no second pass. Without proposals this is TD3 with an
    ensemble.

    The loss owns the critics and all targets. Dropout follows the train or eval flag of the actor
    that was passed in: leave it in train mode and act with its :func:`shared_twin`.

    From pixels, actor and critics read the features of a shared ``encoder``. Only the critic loss
    trains it, it has no target (both as in the original code), s and s' are encoded apart, each
    with its own random shift if the encoder has one in train mode, and the features of s serve
    the actor loss too.

    Args:
        actor_network: writes the RL action [*, A] in [-1, 1].
        qvalue_network: the critic ensemble, writes [*, E].
        proposals: frozen policies, each writing an action of its own key.
        encoder: reads images and writes the features that actor and critics read; None (default)
            where they read observations as they are.
        bootstrap: how the target chooses among the proposals: ``"greedy"`` (paper), ``"soft"`` or
            ``"epsilon"``; see :class:`IBRLSelector`.
        beta: inverse temperature of the soft choice, default 10.
        epsilon: share of random choices of the epsilon mode, default 0.1.
        num_min: size of the drawn subset K, default 2.
        policy_noise: standard deviation of the noise on RL actions, in action units, default 0.1.
        noise_clip: bound of that noise, default 0.3.
        noisy_actor_loss: add the same clipped noise to pi(s) in the actor loss, as the original
            code does, with a gradient that passes straight through the clip at the action bounds.
            Default False, as in the paper.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"`` over the batch.
        use_prioritized_weights: weight the critic loss by ``priority_weight``: ``"auto"``
            (default: when the batch has it), True or False. The actor loss is never weighted.

    ``forward`` returns both losses and diagnostics; ``qvalue_loss`` and ``actor_loss`` return one
    loss and its diagnostics each. The critic loss writes the priority ``td_error`` [*], the mean
    absolute TD error over the critics, into the batch, and the encoder's features, detached, for
    the actor loss; it changes nothing else in it. A transition of k steps carries
    ``steps_to_next_obs``; gamma is set by ``make_value_estimator(gamma=...)``.

    Raises:
        ValueError: an argument is out of range, or proposals do not write distinct keys.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> from ibrl_torchrl.modules import Standardize, StateActor, StateCriticEnsemble
        >>> scale = Standardize.identity(4)
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
    """

    @dataclass
    class _AcceptedKeys:
        """Keys that ``set_keys`` changes.

        Attributes:
            action: the executed action, also what the critics read. Default ``"action"``.
            priority: where the priority is written. Default ``"td_error"``.
            reward, done, terminated: of the step, under ``"next"``.
            priority_weight: importance weights of prioritised replay.
            steps_to_next_obs: k of a k-step transition.
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
        "loss_actor",
        "loss_qvalue",
        "actor_value",
        "pred_value",
        "target_value",
        "next_state_value",
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
        # Kept out of the registered children, as TorchRL keeps the networks themselves: the
        # selector refers to the critic module, whose parameters are owned by this loss.
        self.__dict__["selector"] = IBRLSelector(
            qvalue_network, action_keys, mode=bootstrap, beta=beta, epsilon=epsilon, num_min=num_min
        )
        self.policy_noise = policy_noise
        self.noise_clip = noise_clip
        # Not named after the argument: TorchRL wraps attributes that end in "loss".
        self._noisy_actor = noisy_actor_loss
        self.reduction = reduction
        self.use_prioritized_weights = use_prioritized_weights
        self._in_keys: list[NestedKey] | None = None

    @property
    def in_keys(self) -> list[NestedKey]:
        """What a batch must hold; ``steps_to_next_obs`` and the priority weight are optional."""
        if self._in_keys is None:
            self._in_keys = self._keys_read()
        return self._in_keys

    @in_keys.setter
    def in_keys(self, values: list[NestedKey]) -> None:
        self._in_keys = values

    def _keys_read(self) -> list[NestedKey]:
        names = self.tensor_keys
        return [
            names.action,
            *self._keys_now,
            *((keys.NEXT, key) for key in self._keys_next),
            (keys.NEXT, names.reward),
            (keys.NEXT, names.done),
            (keys.NEXT, names.terminated),
        ]

    @property
    def _keys_now(self) -> list[NestedKey]:
        """What is read of s."""
        read = [*self.encoder.in_keys, *self.actor_network.in_keys]
        read = dict.fromkeys([*read, *self.qvalue_network.observation_keys])
        return [key for key in read if key not in self.encoder.out_keys]

    @property
    def _keys_next(self) -> list[NestedKey]:
        """What is read of s'."""
        proposed_from = [key for policy in self.proposals for key in policy.in_keys]
        return [*dict.fromkeys([*self._keys_now, *proposed_from])]

    def qvalue_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """Critic loss of a batch [B].

        Returns:
            The loss, scalar (``"none"``: [B]), and the detached ``pred_value`` [B, E],
            ``target_value`` [B, 1], ``next_state_value`` [B, 1] and ``next_proposal`` [B], the
            index of the proposal that the target chose.
        """
        names = self.tensor_keys
        next_choice = self._bootstrap(tensordict)
        next_value = next_choice.get(keys.CHOSEN_VALUE)
        target = self.value_estimator.value_estimate(
            tensordict.copy(), next_value=next_value
        ).detach()
        seen = self.encoder(tensordict.select(*self._keys_now))
        for key in self.encoder.out_keys:
            tensordict.set(key, seen.get(key).detach())
        critic_input = seen.select(*self.qvalue_network.observation_keys)
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
        """Actor loss of a batch [B]; gradients reach the actor alone.

        Features that the critic loss left in the batch are used; without them it encodes.

        Returns:
            The loss, scalar (``"none"``: [B]), and the detached ``actor_value`` [B].
        """
        seen = self._encoded(tensordict)
        action = self._act(self.actor_network, seen)
        if self._noisy_actor:
            action = self._noisy(action)
        value = self._min_q(seen, action)
        loss = self._reduce_loss(-value, tensordict=tensordict)
        return loss, {"actor_value": value.detach()}

    def terms(self) -> dict[str, LossTerm]:
        """Terms to minimise: ``"loss_qvalue"`` on every batch, ``"loss_actor"`` once a round."""
        critic = [*self.encoder.parameters(), *self.qvalue_network_params.parameters()]
        actor = [*self.actor_network_params.parameters()]
        return {
            "loss_qvalue": LossTerm(self.qvalue_loss, critic, ("qvalue_network",), True),
            "loss_actor": LossTerm(self.actor_loss, actor, ("actor_network",), False),
        }

    @property
    def metrics(self) -> list[str]:
        """Names of the scalars that a learner can log: the losses and their diagnostics."""
        return [key for key in self.out_keys if key != "next_proposal"]

    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Both losses of a batch [B], with their diagnostics averaged over it."""
        loss_qvalue, critic_info = self.qvalue_loss(tensordict)
        loss_actor, actor_info = self.actor_loss(tensordict)
        info = {key: value.float().mean() for key, value in (actor_info | critic_info).items()}
        return TensorDict({"loss_actor": loss_actor, "loss_qvalue": loss_qvalue, **info})

    @torch.no_grad()
    def _bootstrap(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Propose actions at s', let the target critics choose, and return the choice [B]."""
        next_td = self.encoder(tensordict.get(keys.NEXT).select(*self._keys_next))
        actor_key = self.actor_network.out_keys[0]
        with _with_params(self.target_actor_network_params, self.actor_network):
            self.actor_network(next_td)
        next_td.set(actor_key, self._noisy(next_td.get(actor_key)))
        for policy in self.proposals:
            policy(next_td)
        # TorchRL runs losses under DETERMINISTIC; the target's subset and soft choice are random.
        with (
            set_exploration_type(ExplorationType.RANDOM),
            _with_params(self.target_qvalue_network_params, self.qvalue_network),
        ):
            return self.selector(next_td)

    def _noisy(self, action: Tensor) -> Tensor:
        noise = (torch.randn_like(action) * self.policy_noise).clamp(
            -self.noise_clip, self.noise_clip
        )
        noisy = action + noise
        # The value of the clipped action, the gradient of the unclipped one.
        return noisy + (noisy.clamp(-1, 1) - noisy).detach()

    def _encoded(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Observations with their features, without a gradient; encoded only if need be."""
        if all(key in tensordict for key in self.encoder.out_keys):
            return tensordict
        with torch.no_grad():
            return self.encoder(tensordict.select(*self._keys_now))

    def _act(self, network: TensorDictModuleBase, seen: TensorDictBase) -> Tensor:
        """The action [B, A] of ``network``, the actor or a twin of it."""
        with _with_params(self.actor_network_params, network):
            return network(seen.select(*network.in_keys)).get(network.out_keys[0])

    def _min_q(self, seen: TensorDictBase, action: Tensor) -> Tensor:
        """The minimum of all critics [B]; no gradient reaches them."""
        critic_input = seen.select(*self.qvalue_network.observation_keys)
        critic_input.set(keys.ACTION, action)
        with _with_params(self.qvalue_network_params.detach(), self.qvalue_network):
            return self._values(critic_input).amin(-1)

    def _values(self, critic_input: TensorDictBase) -> Tensor:
        return self.qvalue_network(critic_input).get(self.qvalue_network.out_keys[0])

    def _forward_value_estimator_keys(self, **kwargs: NestedKey) -> None:
        if self._value_estimator is not None:
            names = self.tensor_keys
            self._value_estimator.set_keys(
                reward=names.reward,
                done=names.done,
                terminated=names.terminated,
                steps_to_next_obs=names.steps_to_next_obs,
            )
        self._in_keys = None

    def make_value_estimator(
        self, value_type: ValueEstimators | None = None, **hyperparams: float
    ) -> IBRLTD3Loss:
        """Set the target estimator; ``gamma`` is the usual argument. TD(0) is supported."""
        value_type, hyperparams = self._prepare_value_estimator_kwargs(value_type, **hyperparams)
        if value_type is not None:
            names = self.tensor_keys
            dispatch_value_estimator(
                self,
                value_type,
                supported=(ValueEstimators.TD0,),
                tensor_keys={
                    "reward": names.reward,
                    "done": names.done,
                    "terminated": names.terminated,
                    "steps_to_next_obs": names.steps_to_next_obs,
                },
                value_network=None,
                **hyperparams,
            )
        return self


class _IdentityEncoder(TensorDictModuleBase):
    """The encoder of observations that need none."""

    in_keys: list[NestedKey] = []
    out_keys: list[NestedKey] = []

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        return tensordict


def _with_params(params: TensorDictBase, network: nn.Module) -> AbstractContextManager:
    """Run ``network`` with other parameters for a while.

    By default tensordict would turn the plain tensors of targets into trainable parameters.
    """
    return params.to_module(network, preserve_module_state=False)
