"""Write-side transform that caches the actions of frozen policies."""

from __future__ import annotations

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.envs.transforms import Transform
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import set_recurrent_mode

from ibrl_torchrl.data.replay.one_episode import require_one_episode
from ibrl_torchrl.keys import IS_INIT, NEXT
from ibrl_torchrl.modules.frozen import stateful_part


class CacheProposals(Transform):
    """Write-side transform that stores a frozen policy's action for each observation.

    The loss then reads the action at s' from the batch (``CachedProposal``) instead of evaluating
    the policy in every update. It comes last in a buffer's ``Compose``, whose inverse runs from the
    last to the first, and its key is among the ``observation_keys`` of ``EpisodeToTransitions``.
    Several policies with different keys take one transform each.

    A recurrent policy (``LSTMModule``, ``GRUModule``) reads the episode as one sequence from its
    start, as it does while acting; this is the way to use it in a TD target, whose batches are
    unrelated transitions. Of a stochastic one the mode is stored, since one sample would stand for
    all.

    Args:
        policy: frozen policy in eval mode; reads observations and writes its action first,
            float32 [*, A], such as ``"bc_action"``.

    Raises:
        ValueError: at ``extend``, when the data is of several episodes.

    Example:
        >>> import torch
        >>> from tensordict.nn import TensorDictModule
        >>> from torchrl.envs.transforms import Compose
        >>> from ibrl_torchrl.data.replay import CacheProposals, EpisodeToTransitions
        >>> from ibrl_torchrl.modules import FrozenPolicy
        >>> policy = FrozenPolicy(TensorDictModule(torch.nn.Linear(4, 2), ["state"], ["bc_action"]))
        >>> transform = Compose(
        ...     EpisodeToTransitions(["state", "bc_action"]), CacheProposals(policy)
        ... )
    """

    def __init__(self, policy: TensorDictModuleBase) -> None:
        super().__init__()
        # In __dict__, so that the policy is no submodule: it is saved, moved and trained elsewhere.
        self.__dict__["policy"] = policy

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Return samples unchanged."""
        return tensordict

    @torch.no_grad()
    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        require_one_episode(tensordict, self)
        policy = self.__dict__["policy"]
        key = policy.out_keys[0]
        parameter = next(policy.parameters(), None)
        device = tensordict.device if parameter is None else parameter.device
        last = tensordict.get(NEXT)[-1:]
        # A recurrent policy's states are optional inputs, which the last observation lacks.
        inputs = [name for name in policy.in_keys if last.get(name, None) is not None]
        observations, last = tensordict.select(*inputs), last.select(*inputs)
        episode = TensorDict.cat([observations, last]).to(device)
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            if stateful_part(policy) is None:
                actions = policy(episode).get(key)
            else:
                episode.set(IS_INIT, torch.arange(len(episode), device=device)[:, None] == 0)
                with set_recurrent_mode(True):
                    actions = policy(episode[None]).get(key)[0]
        actions = actions.to(tensordict.get(inputs[0]).device)
        return tensordict.set(key, actions[:-1]).set((NEXT, key), actions[1:])
