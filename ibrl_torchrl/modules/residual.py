"""Residual (edit) actors: a base proposal plus a bounded, trained change."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ibrl_torchrl.modules.bounds import Bounds, clip_straight_through


class ResidualActor(nn.Module):
    """Residual policy network: base action plus a bounded change, clipped to the action bounds.

    With the last layer initialised to zero, the policy starts as the base policy (residual policy
    learning, arXiv 1812.06298; edits of several candidates, EXPO, arXiv 2507.07986). The change
    depends on the observation and on the base action.

    Args:
        network: maps observation vectors and the base action, concatenated by it or in front of
            it, to float [*, A] in [-1, 1], such as
            :class:`~ibrl_torchrl.modules.StateActor` with a normalisation of S + A numbers.
        scale: bound of the change, in action units, above 0; default 0.2.
        bounds: (low, high) of the actions, default (-1, 1).
        zero_init: initialise the network's last linear layer to zero; default True.

    Raises:
        ValueError: ``scale`` is not above 0.

    Example:
        >>> import torch
        >>> from ibrl_torchrl.modules import Normalize, StateActor
        >>> actor = ResidualActor(StateActor(Normalize.identity(5), 2, hidden=[8]), scale=0.1)
        >>> base = torch.full((7, 3, 2), 0.5)  # three base candidates of seven states
        >>> torch.equal(actor(torch.zeros(7, 3), base), base)
        True
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        scale: float = 0.2,
        bounds: Bounds = (-1.0, 1.0),
        zero_init: bool = True,
    ) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError(f"scale must be above 0, got {scale}")
        self.network = network
        self.scale = scale
        self.bounds = bounds
        if zero_init:
            last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Edit base actions.

        Args:
            inputs: observations float [*, S], then base actions float [*, A], or [*, n, A] for n
                candidates.

        Returns:
            Actions of the base actions' shape.
        """
        *observations, base = inputs
        joint = _broadcast(observations, base)
        return clip_straight_through(base + self.scale * self.network(*joint, base), self.bounds)


class ResidualAndActor(nn.Module):
    """Two trained actors as one set of candidates: edited base actions, and an action of its own.

    The edit is good from the first episode on and stays near the base policy; the other actor is
    bound to nothing. Critics choose between them, the base action, and other proposals.

    Args:
        residual: edits the base actions.
        actor: maps observations to an action float [*, A], such as
            :class:`~ibrl_torchrl.modules.StateActor`; best initialised as the base policy.

    Example:
        >>> import torch
        >>> from ibrl_torchrl.modules import Normalize, StateActor
        >>> residual = ResidualActor(StateActor(Normalize.identity(5), 2, hidden=[8]))
        >>> actors = ResidualAndActor(residual, StateActor(Normalize.identity(3), 2, hidden=[8]))
        >>> actors(torch.zeros(7, 3), torch.zeros(7, 2)).shape  # the edit first
        torch.Size([7, 2, 2])
    """

    def __init__(self, residual: ResidualActor, actor: nn.Module) -> None:
        super().__init__()
        self.residual = residual
        self.actor = actor

    def forward(self, *inputs: Tensor) -> Tensor:
        """Propose candidates.

        Args:
            inputs: observations float [*, S], then base actions float [*, A], or [*, n, A] for n
                candidates.

        Returns:
            Edits and the other action, float [*, 2, A] or [*, n + 1, A].
        """
        *observations, base = inputs
        own = self.actor(*observations).unsqueeze(-2)
        edits = self.residual(*inputs)
        return torch.cat([edits if base.ndim == own.ndim else edits.unsqueeze(-2), own], -2)


def _broadcast(observations: Sequence[Tensor], base: Tensor) -> list[Tensor]:
    """Observations [*, S] repeated for the n candidates of base actions [*, n, A]."""
    repeated = []
    for observation in observations:
        if base.ndim > observation.ndim:
            observation = observation.unsqueeze(-2)
        repeated.append(observation.expand(*base.shape[:-1], observation.shape[-1]))
    return repeated
