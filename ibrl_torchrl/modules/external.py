"""Policies of other libraries as proposals: other observation names, units and chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn

from ibrl_torchrl.keys import BC_ACTION
from ibrl_torchrl.modules.bounds import Bounds, clip
from ibrl_torchrl.modules.normalize import Normalize

Batch = dict[str, Tensor]
Call = Callable[[nn.Module, Batch], Tensor]


def predict(policy: nn.Module, batch: Batch) -> Tensor:
    """Actions of a batch, by LeRobot's ``predict_action_chunk``, or by a call of the module.

    LeRobot's ``select_action`` is no proposal: it queues a chunk, so that its action depends on
    earlier observations.
    """
    method = getattr(policy, "predict_action_chunk", policy)
    return method(batch)


class ExternalPolicy(TensorDictModuleBase):
    """Policy of another library, such as LeRobot, as a proposal.

    The policy takes a batch, a dictionary of tensors [B, ...] by its own names, and returns actions
    [B, A] or chunks [B, h, A], in normalised units if ``action_normalize`` is given. Images are
    passed as float32 in [0, 1]. Wrap it in :class:`~ibrl_torchrl.modules.FrozenPolicy`.

    Args:
        policy: module of the other library.
        keys: its names of observations by TensorDict key, such as ``{"state":
            "observation.state", "corner2_image": "observation.images.top"}``.
        out_key: key of the action to write, default ``"bc_action"``.
        normalize: modules by the policy's names, applied to those observations; default none.
        action_normalize: statistics of the policy's actions, which are undone; None (default):
            they are in the environment's units.
        chunk_size: number of actions to propose, the first of a chunk; default 1.
        bounds: (low, high) to which actions are clipped, default (-1, 1).
        call: function of the policy and a batch that returns its actions; default
            :func:`predict`.

    Raises:
        ValueError: ``keys`` is empty, or ``normalize`` names another observation; in ``forward``,
            an observation is missing, or the policy returns no actions of the batch, or too short
            a chunk.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> class Arm(torch.nn.Module):
        ...     def forward(self, batch):
        ...         return batch["observation.state"].unsqueeze(1).expand(-1, 3, -1)
        >>> stats = Normalize(torch.tensor([0.0, 0.2]), torch.tensor([1.0, 0.5]))
        >>> policy = ExternalPolicy(Arm(), {"state": "observation.state"}, action_normalize=stats)
        >>> policy(TensorDict(state=torch.tensor([0.5, 1.0])))["bc_action"]
        tensor([0.5000, 0.7000])
    """

    def __init__(
        self,
        policy: nn.Module,
        keys: Mapping[str, str],
        *,
        out_key: str = BC_ACTION,
        normalize: Mapping[str, nn.Module] | None = None,
        action_normalize: Normalize | None = None,
        chunk_size: int = 1,
        bounds: Bounds = (-1.0, 1.0),
        call: Call = predict,
    ) -> None:
        super().__init__()
        if not keys:
            raise ValueError("keys must name at least one observation")
        normalize = normalize or {}
        if unknown := {*normalize} - {*keys.values()}:
            known = sorted(keys.values())
            raise ValueError(f"normalize must name observations of {known}, got {sorted(unknown)}")
        self.policy = policy
        self.keys = dict(keys)
        self.chunk_size = chunk_size
        self.bounds = bounds
        self.action_normalize = action_normalize
        self._normalized = {name: i for i, name in enumerate(normalize)}  # names may have dots
        self.normalizers = nn.ModuleList(normalize.values())
        self._call = call
        self.in_keys = [*keys]
        self.out_keys = [out_key]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the action [*, A], or of a chunk the first ``chunk_size`` ones [*, k A]."""
        shape = tensordict.batch_size
        size = shape.numel()
        batch: Batch = {}
        for key, name in self.keys.items():
            value = self._observation(tensordict, key, name)
            batch[name] = value.reshape(size, *value.shape[len(shape) :])
        chunk = self._call(self.policy, batch)
        if chunk.ndim == 2:
            chunk = chunk.unsqueeze(1)
        if chunk.ndim != 3 or chunk.shape[0] != size or chunk.shape[1] < self.chunk_size:
            raise ValueError(
                f"the policy returned actions of shape {[*chunk.shape]}; for a batch of {size} "
                f"they must be [{size}, A] or [{size}, h, A] with h at least {self.chunk_size}"
            )
        action = chunk[:, : self.chunk_size]
        if self.action_normalize is not None:
            action = self.action_normalize.inverse(action)
        action = clip(action, self.bounds)
        return tensordict.set(self.out_keys[0], action.reshape(*shape, -1))

    def _observation(self, tensordict: TensorDictBase, key: str, name: str) -> Tensor:
        value = tensordict.get(key, None)
        if value is None:
            raise ValueError(
                f"observation {key!r}, the policy's {name!r}, is not in the TensorDict, which has "
                f"{[*tensordict.keys(True)]}"
            )
        if value.dtype == torch.uint8:
            value = value.float() / 255
        index = self._normalized.get(name)
        return value if index is None else self.normalizers[index](value)
