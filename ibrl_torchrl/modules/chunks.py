"""Action chunks: the actions of several steps as one decision, and their execution."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torch import Tensor

from ibrl_torchrl.keys import ACTION, ACTION_CHUNK, CHUNK_STEP, INTERVENTION, IS_INIT


class ChunkExecutor(TensorDictModuleBase):
    """Policy of single actions that executes the action chunks of another policy.

    The policy writes h actions in a row, float [*, h A]. They are executed one a step; after
    ``replan`` of them, at the start of an episode, and after a step in which somebody else acted
    (``intervention``), the policy decides anew. Between decisions it is not evaluated. Whatever
    else it wrote, such as ``proposal`` and ``proposal_values``, stays until the next decision, so
    that each step of an episode names the proposal it came from; TorchRL's
    ``MultiStepActorWrapper`` passes on the actions alone.

    The state between steps, ``action_chunk`` and ``chunk_step``, is carried in the TensorDict, as
    ``EnvBase.rollout`` and collectors do. An episode starts where ``chunk_step`` is missing or
    ``is_init`` (``InitTracker``), which collectors and batched environments need, is true.

    Args:
        policy: writes ``action``, float [*, h A], ordered by step.
        size: number of actions h in a chunk.
        replan: number of actions executed before the next decision, at most ``size``; None
            (default): all.

    Raises:
        ValueError: an argument is out of range; in ``forward``, the action is no chunk.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> plan = TensorDictModule(lambda x: x + torch.arange(3.0), ["x"], ["action"])
        >>> policy = ChunkExecutor(plan, 3, replan=2)
        >>> td = TensorDict(x=torch.zeros(1))
        >>> actions = []
        >>> for x in (0.0, 10.0, 20.0):
        ...     td = policy(td.set("x", torch.full((1,), x)))
        ...     actions.append(td["action"].item())
        >>> actions
        [0.0, 1.0, 20.0]
    """

    def __init__(
        self, policy: TensorDictModuleBase, size: int, *, replan: int | None = None
    ) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        if replan is not None and not 1 <= replan <= size:
            raise ValueError(f"replan must be between 1 and size={size}, got {replan}")
        self.policy = policy
        self.size = size
        self.replan = replan or size
        self.in_keys = [*policy.in_keys]
        self.out_keys = [*policy.out_keys, ACTION_CHUNK, CHUNK_STEP]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write ``action`` [*, A], ``action_chunk`` [*, h A] and ``chunk_step`` int64 [*, 1]."""
        due, step = self._due(tensordict)
        if bool(due.any()):
            decision = self._decide(tensordict)
            if not bool(due.all()):
                previous = tensordict.select(*decision.keys(True, True))
                decision = decision.where(due.squeeze(-1), previous)
            tensordict.update(decision)
        tensordict.set(CHUNK_STEP, step)
        chunk = tensordict.get(ACTION_CHUNK).unflatten(-1, (self.size, -1))
        action = chunk.take_along_dim(step.unsqueeze(-1), -2).squeeze(-2)
        return tensordict.set(ACTION, action)

    def _due(self, tensordict: TensorDictBase) -> tuple[Tensor, Tensor]:
        """Where the policy decides, bool [*, 1], and the index of the action, int64 [*, 1]."""
        previous = tensordict.get(CHUNK_STEP, None)
        if previous is None:
            shape = (*tensordict.batch_size, 1)
            # That of the TensorDict may be unset.
            device = next((each.device for each in tensordict.values(True, True)), None)
            step = torch.zeros(shape, dtype=torch.int64, device=device)
            return torch.ones_like(step, dtype=torch.bool), step
        due = previous + 1 >= self.replan
        for key in (IS_INIT, INTERVENTION):  # the latter is that of the previous step
            if (flag := tensordict.get(key, None)) is not None:
                due = due | flag
        return due, torch.where(due, 0, previous + 1)

    def _decide(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Outputs of the policy, its action as ``action_chunk``."""
        # A whole copy: policies with a state read optional keys that are not among their in_keys.
        output = self.policy(tensordict.copy())
        size = output.get(ACTION).shape[-1]
        if size % self.size:
            raise ValueError(
                f"the policy's action has {size} numbers, no multiple of the chunk's {self.size} "
                "steps"
            )
        return output.select(*self.policy.out_keys).rename_key_(ACTION, ACTION_CHUNK)


class ChunkPrefix(TensorDictModuleBase):
    """Proposal of the first actions of a longer chunk.

    Critics over chunks of k actions compare it with proposals of k actions; with single actions,
    where k = 1, if every step is a new decision.

    Args:
        policy: writes its action first, float [*, h A], and nothing else that holds actions.
        action_size: numbers of the shorter chunk, k A.

    Raises:
        ValueError: in ``forward``, the policy's chunk is shorter.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> bc = TensorDictModule(lambda x: torch.arange(8.0), ["x"], ["bc_action"])
        >>> ChunkPrefix(bc, 2)(TensorDict(x=torch.zeros(1)))["bc_action"]
        tensor([0., 1.])
    """

    def __init__(self, policy: TensorDictModuleBase, action_size: int) -> None:
        super().__init__()
        self.policy = policy
        self.action_size = action_size
        self.in_keys = [*policy.in_keys]
        self.out_keys = [*policy.out_keys]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the first actions [*, k A]."""
        key: NestedKey = self.out_keys[0]
        output = self.policy(tensordict)
        action = output.get(key)
        if action.shape[-1] < self.action_size:
            raise ValueError(
                f"proposal {key!r} has {action.shape[-1]} numbers, fewer than the "
                f"{self.action_size} of the chunk that the critics value"
            )
        return output.set(key, action[..., : self.action_size])
