"""Acting side of IBRL from a loss: actor, proposals and the critics' choice as one policy."""

from __future__ import annotations

from collections.abc import Sequence

from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from tensordict.utils import NestedKey
from torchrl.objectives import LossModule

from ibrl_torchrl.keys import RL_ACTION
from ibrl_torchrl.modules import ActorProposal, IBRLSelector, tied_copy
from ibrl_torchrl.modules.choice import SelectionMode
from ibrl_torchrl.modules.critics.base import CriticReduction
from ibrl_torchrl.modules.gates import Gate
from ibrl_torchrl.objectives.adapters import adapter_of
from ibrl_torchrl.objectives.bootstrap import ProposalValueEstimator


def hybrid_policy(
    loss: LossModule,
    proposals: Sequence[TensorDictModuleBase] | None = None,
    *,
    noise: TensorDictModuleBase | None = None,
    mode: SelectionMode = "greedy",
    beta: float = 10.0,
    epsilon: float = 0.1,
    num_min: int | None = None,
    reduction: CriticReduction = "min",
    gate: Gate | None = None,
    actor_key: NestedKey = RL_ACTION,
) -> TensorDictSequential:
    """Policy in which the loss's critics choose between its actor and the proposals.

    Shares all parameters with the loss, so that every update is seen at once; networks are in eval
    mode. Writes the loss's action key, ``proposal``, ``chosen_value`` and ``proposal_values``, see
    :class:`~ibrl_torchrl.modules.IBRLSelector`.

    Args:
        loss: loss of TorchRL, see :func:`bootstrap_from`, or :class:`IBRLTD3Loss`.
        proposals: frozen policies; None (default): those that the loss bootstraps from.
        noise: exploration module on ``actor_key``, such as ``AdditiveGaussianModule(spec,
            action_key="rl_action")``, for deterministic actors; default none.
        mode: ``"greedy"`` (default), ``"soft"`` or ``"epsilon"``.
        beta: inverse temperature of the soft choice, default 10.
        epsilon: probability of a random choice in epsilon mode, default 0.1.
        num_min: critics drawn for a choice; None (default): as in the loss's target.
        reduction: ``"min"`` (default) or ``"mean"`` over the drawn critics; TQC's values are means
            of the lowest atoms in any case.
        gate: cautious choice, see :class:`~ibrl_torchrl.modules.Gate`; None (default): none.
        actor_key: key of the actor's proposal, default ``"rl_action"``; an actor of several
            proposals keeps its keys.

    Raises:
        TypeError: the loss is not supported.
        ValueError: an argument is out of range, or the loss has no proposals and none is given.
    """
    adapter = adapter_of(loss)
    if proposals is None:
        estimator = loss.value_estimator
        if not isinstance(estimator, ProposalValueEstimator):
            raise ValueError("the loss has no proposals; pass them, or call bootstrap_from first")
        proposals = [*estimator.proposals]
    actor = tied_copy(loss.actor_network).eval()
    actor_keys = adapter.acting_keys
    if len(actor_keys) == 1:
        actor, actor_keys = ActorProposal(actor, actor_key, actor_keys[0]), [actor_key]
    selector = IBRLSelector(
        adapter.acting_critics(),
        [*actor_keys, *(proposal.out_keys[0] for proposal in proposals)],
        mode=mode,
        beta=beta,
        epsilon=epsilon,
        num_min=adapter.num_min if num_min is None else num_min,
        reduction=reduction,
        gate=gate,
        trusted=[proposal.out_keys[0] for proposal in proposals],
    )
    # Proposals first: a residual actor reads the action that it changes.
    exploration = [] if noise is None else [noise]
    policy = [*proposals, *adapter.acting_encoder, actor, *exploration, selector]
    if not adapter.acting_encoder:
        return TensorDictSequential(*policy)
    # Not the features, which replay would store and the actor loss take for today's encoder's.
    features = {key for encoder in adapter.acting_encoder for key in encoder.out_keys}
    written = dict.fromkeys(key for module in policy for key in module.out_keys)
    kept = [key for key in written if key not in features]
    return TensorDictSequential(*policy, selected_out_keys=kept)
