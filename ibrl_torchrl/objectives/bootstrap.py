"""Bootstrap proposal as a value estimator, for TorchRL's off-policy losses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, TypeVar, get_args

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey, unravel_key
from torch import Tensor, nn
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import set_recurrent_mode
from torchrl.objectives import LossModule
from torchrl.objectives.value import ValueEstimatorBase

from ibrl_torchrl.keys import NEXT
from ibrl_torchrl.modules.choice import (
    Candidates,
    ProposalChoice,
    SelectionMode,
    eligible_candidates,
    gather_candidates,
)
from ibrl_torchrl.modules.frozen import require_action_output
from ibrl_torchrl.modules.gates import Gate
from ibrl_torchrl.modules.proposers import require_stateless
from ibrl_torchrl.objectives.adapters import LossAdapter, adapter_of

ChooseBy = Literal["soft_value", "value"]
LossT = TypeVar("LossT", bound=LossModule)


class ProposalValueEstimator(ValueEstimatorBase):
    """Value estimator that bootstraps from the best of several proposals at s'.

    All of TorchRL's off-policy losses end their target in ``value_estimator.value_estimate``, with
    the value of their own actor's action at s'. This estimator values the proposals by the loss's
    own target critics, reduced as the loss reduces them, chooses among all, and hands the value of
    the chosen one to the estimator that it wraps (arXiv 2311.02198, section 4.2)::

        y = r + gamma^k (1 - terminated) max(V_actor(s'), Q'(s', a_1), Q'(s', a_2), ...)

    V_actor contains what the loss puts in: target noise, SAC's - alpha log pi, TQC's truncation.

    Args:
        adapter: critics and actor of the loss.
        estimator: estimator of the target from rewards and next values, such as TorchRL's
            ``TD0Estimator``.
        proposals: policies; each writes one action float [*, A] or candidates [*, n, A]. They run
            in this order on one TensorDict, so that one may read the action of another.
        choice: rule of the choice.
        gate: cautious choice, see :class:`~ibrl_torchrl.modules.Gate`; None (default): none.
        choose_by: ``"soft_value"`` (default) compares the actor's Q - alpha log pi with the
            proposals' Q; ``"value"`` compares Q with Q and bootstraps with the entropy term where
            the actor's action is chosen. Only ``"value"`` lets a gate compare critics.

    After each call, ``next_value`` float [*, 1] (TQC: [*, V]) and ``next_proposal`` int64 [*] hold
    the value and the index of the chosen proposal; 0 is the loss's actor.
    """

    next_value: Tensor
    next_proposal: Tensor

    def __init__(
        self,
        adapter: LossAdapter,
        estimator: ValueEstimatorBase,
        proposals: Sequence[TensorDictModuleBase],
        *,
        choice: ProposalChoice,
        gate: Gate | None = None,
        choose_by: ChooseBy = "soft_value",
    ) -> None:
        super().__init__(value_network=None)
        keys = [require_proposal(proposal) for proposal in proposals]
        if len({*keys}) < len(keys):
            raise ValueError(f"proposals must write distinct keys, got {keys}")
        if choose_by not in get_args(ChooseBy):
            raise ValueError(f"choose_by must be one of {get_args(ChooseBy)}, got {choose_by!r}")
        if gate is not None and choose_by != "value":
            raise ValueError("a gate in the target compares critics; it needs choose_by='value'")
        if gate is not None and not keys:
            raise ValueError("a gate needs at least one proposal beside the actor's")
        self.proposals = nn.ModuleList(proposals)
        self.wrap(estimator, adapter.loss)
        # Not a registered child: the loss owns this estimator.
        self.__dict__["adapter"] = adapter
        self.choice = choice
        self.gate = gate
        self.choose_by = choose_by
        self.proposal_keys: list[NestedKey] = keys
        self._checked = False

    def wrap(self, estimator: ValueEstimatorBase, loss: LossModule) -> None:
        """Wrap another estimator, with its numbers (gamma) on the loss's device.

        TorchRL's estimators of some losses start on the CPU and move at the first batch.
        """
        parameter = next(loss.parameters(), None)
        if parameter is not None:
            for name, buffer in estimator.named_buffers(recurse=False):
                setattr(estimator, name, buffer.to(parameter.device))
        self.estimator = estimator

    @property
    def tensor_keys(self) -> Any:
        """Keys of the wrapped estimator."""
        return self.estimator.tensor_keys

    def set_keys(self, **kwargs: Any) -> None:
        """Set keys of the wrapped estimator."""
        self.estimator.set_keys(**kwargs)

    @property
    def observation_keys(self) -> list[NestedKey]:
        """Keys of s' that the proposals read and do not write themselves."""
        return required_inputs(self.proposals)

    def forward(
        self,
        tensordict: TensorDictBase,
        *,
        params: TensorDictBase | None = None,
        target_params: TensorDictBase | None = None,
    ) -> TensorDictBase:
        """Write the target as ``value_target``."""
        del params
        target = self.value_estimate(tensordict, target_params=target_params)
        return tensordict.set(self.tensor_keys.value_target, target)

    def value_estimate(
        self,
        tensordict: TensorDictBase,
        target_params: TensorDictBase | None = None,
        next_value: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Target of a batch.

        Args:
            tensordict: transitions [*].
            target_params: parameters of the loss's own value, which the adapter knows; not used.
            next_value: value of the loss's own action at s', float [*, V]; None: read from the
                batch, or computed.
            **kwargs: passed on to the wrapped estimator.

        Returns:
            Targets, float of the reward's shape.
        """
        del target_params
        if self.choose_by == "value" or not self.adapter.gives_next_value:
            next_value = None
        elif next_value is None:
            next_value = tensordict.get((NEXT, self.tensor_keys.value))
        self.next_value, self.next_proposal = self.bootstrap(tensordict.get(NEXT), next_value)
        steps = self.adapter.steps_to_next_obs
        if steps is not None:
            tensordict.set(self.tensor_keys.steps_to_next_obs, steps)
        return self.estimator.value_estimate(tensordict, next_value=self.next_value, **kwargs)

    @torch.no_grad()
    def bootstrap(
        self, next_tensordict: TensorDictBase, own_value: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Choose among the proposals at s'.

        Args:
            next_tensordict: observations s', batch shape [*]; left unchanged.
            own_value: value of the loss's own action, float [*, V]; None: its actor proposes and
                its critics value the action beside the others.

        Returns:
            Value of the chosen proposal, float [*, V], and its index, int64 [*].
        """
        obs = self.adapter.encode(next_tensordict)
        penalty: Tensor | float = 0.0
        with acting_modes():
            for proposal in self.proposals:
                obs = proposal(obs)
            if own_value is None:
                penalty = self.adapter.propose(obs)
            elif not self.proposals:
                index = own_value.new_zeros(own_value.shape[:-1], dtype=torch.int64)
                return own_value, index
            keys = self.proposal_keys
            if own_value is None:
                keys = [*self.adapter.actor_keys, *keys, *self.adapter.further_keys]
            candidates = gather_candidates(obs, keys)
        self._check_once(candidates, keys)
        values, by_critic = self.adapter.evaluate(
            obs,
            candidates.actions,
            None if own_value is None else own_value.shape[-1],
            all_critics=self.gate is not None,
        )  # [*, N, V] and [*, N, E]
        counts, eligible = candidates.counts, None
        if own_value is not None:
            values = torch.cat([own_value.unsqueeze(-2), values], -2)
            counts = (1, *counts)
        scores = values.mean(-1)
        if self.gate is not None:
            trusted = [key in self.proposal_keys for key in keys]
            eligible = eligible_candidates(self.gate, by_critic, scores, trusted, counts)
        chosen = self.choice(scores, eligible)
        if isinstance(penalty, Tensor):
            # Entropy enters the value of the actor's action, not the choice.
            penalties = torch.zeros_like(scores)
            penalties[..., 0] = penalty
            values = values - penalties.unsqueeze(-1)
        value = torch.take_along_dim(values, chosen[..., None, None], -2).squeeze(-2)
        return value, Candidates(values, counts).proposal(chosen)

    def _check_once(self, candidates: Candidates, keys: Sequence[NestedKey]) -> None:
        """Check the first batch's actions against the loss's bounds; later ones cost nothing.

        Raises:
            ValueError: an action is out of bounds; names the proposal.
        """
        if self._checked or torch.compiler.is_compiling() or candidates.actions.is_meta:
            return
        bounds = self.adapter.bounds
        if bounds is None:
            return
        low, high = (torch.as_tensor(bound, device=candidates.actions.device) for bound in bounds)
        tolerance = 1e-4 * (high - low)
        parts = [*candidates.actions.split(candidates.counts, -2)]
        for key, actions in zip(keys, parts, strict=True):
            if key not in self.proposal_keys:
                continue
            excess = torch.maximum(low - actions, actions - high) - tolerance
            if bool((excess > 0).any()):
                worst = torch.unravel_index(excess.argmax(), excess.shape)
                numbers = (actions, low.expand_as(actions), high.expand_as(actions))
                action, least, most = (each[worst].item() for each in numbers)
                raise ValueError(
                    f"proposal {key!r} has an action of {action:.3g} in dimension "
                    f"{int(worst[-1])}, outside of the bounds [{least:.3g}, {most:.3g}]; scale its "
                    "output to the action space, or pass the right action_spec to the loss"
                )
        self._checked = True


@contextmanager
def acting_modes() -> Iterator[None]:
    """Modes of TorchRL in which policies act on a batch row by row, at random.

    TorchRL runs losses under DETERMINISTIC and ``set_recurrent_mode(True)``: candidates would be
    copies of one mode, and a batch of unrelated transitions one sequence.
    """
    with set_exploration_type(ExplorationType.RANDOM), set_recurrent_mode(False):
        yield


def require_proposal(proposal: TensorDictModuleBase) -> NestedKey:
    """Key of the action that a proposal writes.

    Raises:
        TypeError: it is no TensorDict module.
        ValueError: it writes several keys, has trainable parameters, or depends on more than s'.
    """
    if isinstance(proposal, nn.Module):
        require_stateless(proposal, getattr(proposal, "out_keys", ["?"])[0])
    key = require_action_output(proposal)
    if [*proposal.out_keys] != [key]:
        raise ValueError(
            f"a proposal must write its action alone, got {[*proposal.out_keys]}; wrap the policy: "
            f"FrozenPolicy(policy, out_key='bc_action')"
        )
    if any(parameter.requires_grad for parameter in proposal.parameters()):
        raise ValueError(
            f"proposal {key!r} has trainable parameters, which this loss does not train; wrap the "
            "policy in FrozenPolicy, or make it part of the loss's actor"
        )
    return key


def required_inputs(modules: Iterable[Any]) -> list[NestedKey]:
    """Keys that modules read, in order, without those that an earlier one writes."""
    required: dict[NestedKey, None] = {}
    written: set[NestedKey] = set()
    for module in modules:
        required.update({key: None for key in module.in_keys if key not in written})
        written.update(module.out_keys)
    return [*required]


def bootstrap_from(
    loss: LossT,
    proposals: Sequence[TensorDictModuleBase],
    *,
    mode: SelectionMode = "greedy",
    beta: float = 10.0,
    epsilon: float = 0.1,
    gate: Gate | None = None,
    choose_by: ChooseBy = "soft_value",
    **hyperparams: Any,
) -> LossT:
    """Add the bootstrap proposal of IBRL to a loss of TorchRL.

    Args:
        loss: ``SACLoss`` (without a value network), ``TQCLoss``, ``REDQLoss``, ``CrossQLoss``,
            ``DDPGLoss`` or ``TD3Loss``, or a subclass.
        proposals: frozen policies, each writing one action float [*, A] or n candidates
            [*, n, A].
        mode: ``"greedy"`` (default), ``"soft"`` or ``"epsilon"``, see
            :class:`~ibrl_torchrl.modules.ProposalChoice`.
        beta: inverse temperature of the soft choice, default 10.
        epsilon: probability of a random choice in epsilon mode, default 0.1.
        gate: cautious choice; needs ``choose_by="value"``. None (default): none.
        choose_by: ``"soft_value"`` (default) or ``"value"``, see
            :class:`ProposalValueEstimator`. With entropy a large temperature switches proposals
            off: with alpha = 1 and returns in [0, 1], -alpha log pi outweighs every value. Start
            with ``alpha_init=0.01`` (``REDQLoss``: and a small ``min_alpha``), or choose by value.
        **hyperparams: of the value estimator, such as ``gamma``; without any, the loss keeps the
            estimator that it has.

    Returns:
        The loss itself.

    Raises:
        TypeError: the loss is not supported or takes proposals itself, as
            :class:`IBRLTD3Loss` does, or a proposal is no TensorDict module.
        ValueError: a proposal writes several keys, is trainable or recurrent; or an argument is
            out of range.

    Example:
        >>> import torch
        >>> from tensordict.nn import NormalParamExtractor, TensorDictModule as Module
        >>> from torchrl.modules import MLP, ProbabilisticActor, TanhNormal, ValueOperator
        >>> from torchrl.objectives import SACLoss
        >>> from ibrl_torchrl.modules import FrozenPolicy
        >>> net = torch.nn.Sequential(MLP(3, 4, num_cells=[8]), NormalParamExtractor())
        >>> actor = ProbabilisticActor(Module(net, ["state"], ["loc", "scale"]), ["loc", "scale"],
        ...     distribution_class=TanhNormal, return_log_prob=True)
        >>> critic = ValueOperator(MLP(5, 1, num_cells=[8]), ["state", "action"])
        >>> bc = FrozenPolicy(Module(torch.nn.Linear(3, 2), ["state"], ["bc_action"]))
        >>> loss = SACLoss(actor, critic, alpha_init=0.01, target_entropy=-2.0)
        >>> loss = bootstrap_from(loss, [bc], gamma=0.99)
    """
    adapter = adapter_of(loss)
    if adapter.has_proposals:
        raise TypeError(
            f"{type(loss).__name__} bootstraps from proposals of its own; pass it proposals=[...]"
        )
    if hyperparams or loss._value_estimator is None:
        type(loss).make_value_estimator(loss, **hyperparams)
    estimator = loss.value_estimator
    if isinstance(estimator, ProposalValueEstimator):
        estimator = estimator.estimator
    wrapped = ProposalValueEstimator(
        adapter,
        estimator,
        proposals,
        choice=ProposalChoice(mode, beta=beta, epsilon=epsilon),
        gate=gate,
        choose_by=choose_by,
    )
    loss._value_estimator = wrapped
    # TorchRL's methods put another estimator, or only the loss's own keys, in place.
    loss.make_value_estimator = partial(_make_value_estimator, loss)
    loss.set_keys = partial(_set_keys, loss)
    loss.set_keys()  # also drops the inputs of proposals that these replace
    return loss


def _make_value_estimator(loss: LossModule, *args: Any, **kwargs: Any) -> LossModule:
    """``loss.make_value_estimator``, which keeps the bootstrap proposal around the estimator."""
    wrapped = loss._value_estimator
    type(loss).make_value_estimator(loss, *args, **kwargs)
    wrapped.wrap(loss._value_estimator, loss)
    loss._value_estimator = wrapped
    loss.set_keys()
    return loss


def _set_keys(loss: LossModule, **kwargs: Any) -> None:
    """``loss.set_keys``, which keeps the proposals' inputs among ``in_keys``."""
    type(loss).set_keys(loss, **kwargs)
    _require_inputs(loss)


def _require_inputs(loss: LossModule) -> None:
    """Add what the proposals read to the ``in_keys`` of a loss."""
    required = [unravel_key((NEXT, key)) for key in loss.value_estimator.observation_keys]
    loss.in_keys = [*dict.fromkeys([*loss.in_keys, *required])]
