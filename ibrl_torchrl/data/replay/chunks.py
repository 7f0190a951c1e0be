"""Write-side transform from transitions of actions to transitions of action chunks."""

from __future__ import annotations

from tensordict import TensorDictBase
from torchrl.envs.transforms import Transform

from ibrl_torchrl.data.replay.one_episode import require_one_episode
from ibrl_torchrl.episodes import action_chunks
from ibrl_torchrl.keys import ACTION


class ChunkActions(Transform):
    """Write-side transform that replaces each action of an episode by the chunk starting there.

    Together with :class:`EpisodeToTransitions` of n h steps, transition t has the executed actions
    a_t, ..., a_{t+h-1}, float [T, h A], the reward sum_{j<k} gamma^j r_{t+j}, the observation
    s_{t+k} and gamma^k, k = min(n h, steps left): the backup of a critic over chunks, without a
    correction for the policy (arXiv 2507.07969). Windows start at every step, not at decisions
    alone. Those that reach the end of the episode repeat its last action.

    It is written before ``EpisodeToTransitions``, hence stands after it in a ``Compose``, whose
    inverse runs from the last to the first. With environments that execute whole chunks, such as
    TorchRL's ``MultiAction``, rows are chunks already; see ``EpisodeToTransitions``.

    Args:
        size: number of actions h in a chunk; 1 changes nothing.

    Raises:
        ValueError: at ``extend``, when the data is of several episodes.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> episode = TensorDict(action=torch.arange(3.0)[:, None], batch_size=[3])
        >>> ChunkActions(2).inv(episode)["action"].tolist()
        [[0.0, 1.0], [1.0, 2.0], [2.0, 2.0]]
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Return samples unchanged."""
        return tensordict

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        require_one_episode(tensordict, self)
        chunks = action_chunks(tensordict.get(ACTION), self._size)
        return tensordict.copy().set(ACTION, chunks)
