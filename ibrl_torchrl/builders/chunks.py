"""Action chunks from settings: their space, execution and proposals."""

from __future__ import annotations

from tensordict.nn import TensorDictModuleBase
from torchrl.data import Bounded, TensorSpec

from ibrl_torchrl.config.chunk import ChunkConfig
from ibrl_torchrl.modules import ChunkExecutor, ChunkPrefix


def chunk_spec(spec: TensorSpec, size: int) -> TensorSpec:
    """Space of ``size`` actions in a row, [size A], of an action space [A]; of 1 the space itself.

    Args:
        spec: bounded action space.
        size: number of actions.
    """
    if size == 1:
        return spec
    low, high = (bound.repeat(size) for bound in (spec.space.low, spec.space.high))
    return Bounded(low, high, low.shape, device=spec.device, dtype=spec.dtype)


def execute_chunks(policy: TensorDictModuleBase, chunk: ChunkConfig) -> TensorDictModuleBase:
    """Policy of single actions from a policy of chunks; of chunks of 1 the policy itself."""
    if chunk.size == 1:
        return policy
    return ChunkExecutor(policy, chunk.size, replan=chunk.replan)


def first_actions(
    policy: TensorDictModuleBase, size: int, critic_size: int, action_size: int
) -> TensorDictModuleBase:
    """Proposal of as many actions as the critics value.

    Args:
        policy: imitation policy of chunks of ``size`` actions.
        size: number of actions that it predicts, at least ``critic_size``.
        critic_size: number of actions that the critics value.
        action_size: numbers of one action A.
    """
    return policy if size == critic_size else ChunkPrefix(policy, critic_size * action_size)
