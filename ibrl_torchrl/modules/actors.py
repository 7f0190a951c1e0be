"""Deterministic policy networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ibrl_torchrl.modules.bounds import Bounds, require_bounds
from ibrl_torchrl.modules.encoders import CameraEncoder
from ibrl_torchrl.modules.heads import Head, process_proprio
from ibrl_torchrl.modules.initialize import orthogonal_
from ibrl_torchrl.modules.mlp import relu_mlp
from ibrl_torchrl.modules.normalize import Normalize


class ActionBounds(nn.Module):
    """Linear map of actions from [-1, 1] to action bounds, which are reached and not exceeded.

    The bounds ``low`` and ``high``, float [A], are part of the ``state_dict``, moved with
    ``.to()``, not trained.

    Args:
        low: lowest action, a number or float [A].
        high: highest action, a number or float [A].
        action_size: number of action dimensions A.

    Raises:
        ValueError: a bound is neither a number nor of shape [A], or is not finite, or ``low`` is
            not less than ``high`` in each dimension.

    Example:
        >>> import torch
        >>> ActionBounds(0.0, torch.tensor([1.0, 4.0]), 2)(torch.tensor([-1.0, 0.0]))
        tensor([0., 2.])
    """

    def __init__(self, low: float | Tensor, high: float | Tensor, action_size: int) -> None:
        super().__init__()
        low, high = (torch.as_tensor(x, dtype=torch.get_default_dtype()) for x in (low, high))
        if not {low.shape, high.shape} <= {(), (action_size,)}:
            raise ValueError(
                "action bounds must be numbers or "
                f"[{action_size}], got {[*low.shape]} and {[*high.shape]}"
            )
        require_bounds(low, high)
        if not bool((low.isfinite() & high.isfinite()).all()):
            raise ValueError(
                f"action bounds must be finite, got low={low.tolist()}, high={high.tolist()}"
            )
        # Parameters, although not trained: `.to()` replaces buffers but moves parameters in place,
        # so that weight-sharing copies follow.
        low, high = (x.detach().expand(action_size).clone() for x in (low, high))
        self.low = nn.Parameter(low, requires_grad=False)
        self.high = nn.Parameter(high, requires_grad=False)

    def forward(self, action: Tensor) -> Tensor:
        """Map actions float [*, A] in [-1, 1] to [*, A] in [low, high]."""
        # Unlike center + scale * action, lerp is exact at both ends. It does not promote dtypes,
        # which differ under autocast.
        return torch.lerp(self.low, self.high, ((action + 1) / 2).to(self.low.dtype))


class StateActor(nn.Module):
    """Deterministic policy network of state vectors: normalisation, MLP, tanh.

    Used for the RL actor and for imitation policies from states. The paper regularises the RL actor
    by dropout of 0.5, on during updates and off when acting (arXiv 2311.02198, section 4.1).

    Several observations, such as observation and goal, are concatenated in the order in which they
    are passed. A hidden layer consists of linear, layer norm if set, dropout, ReLU.

    Args:
        normalize: statistics of the observation, or of several observations concatenated; its
            ``size`` is the MLP's input size.
        action_size: number of action dimensions A.
        hidden: width of each hidden layer, default three of 1024.
        dropout: probability of zeroing a hidden unit in train mode, default 0.5.
        layer_norm: layer norm after each hidden layer's linear map, default False.
        bounds: (low, high) of the actions, each a number or float [A], such as those of
            ``action_spec.space``; tanh is mapped to them linearly. None (default): -1 and 1.

    Raises:
        ValueError: the bounds are not finite, not ordered, or neither numbers nor of shape [A].

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> from ibrl_torchrl.modules import Normalize
        >>> actor = StateActor(Normalize.identity(39), 4, hidden=[64, 64])
        >>> actor(torch.zeros(2, 39)).shape
        torch.Size([2, 4])
        >>> policy = TensorDictModule(actor, ["observation", "desired_goal"], ["rl_action"])
        >>> td = TensorDict(observation=torch.zeros(36), desired_goal=torch.zeros(3))
        >>> policy(td)["rl_action"].shape
        torch.Size([4])
    """

    def __init__(
        self,
        normalize: Normalize,
        action_size: int,
        *,
        hidden: Sequence[int] = (1024, 1024, 1024),
        dropout: float = 0.5,
        layer_norm: bool = False,
        bounds: Bounds | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.mlp = relu_mlp(normalize.size, hidden, action_size, dropout, layer_norm=layer_norm)
        self.bounds = None if bounds is None else ActionBounds(*bounds, action_size)

    def forward(self, *observations: Tensor) -> Tensor:
        """Map observations to actions.

        Args:
            observations: one or more vectors float [*, S_i] with sum S of sizes.

        Returns:
            float [*, A] in [-1, 1], or in ``bounds``.
        """
        state = observations[0] if len(observations) == 1 else torch.cat(observations, -1)
        action = torch.tanh(self.mlp(self.normalize(state)))
        return action if self.bounds is None else self.bounds(action)


class FeatureActor(nn.Module):
    """Deterministic policy network of patch features: head, MLP with layer norm, tanh.

    A hidden layer consists of linear, layer norm, dropout, ReLU, as in the original code.

    Args:
        head: maps features [*, P, D] and proprioception [*, Y], if used, to a vector [*, H] with
            H = ``head.size``: :class:`FlattenHead`, :class:`LinearHead` or :class:`SpatialHead`.
        action_size: number of action dimensions A.
        proprio: preprocessing of the proprioception, such as :class:`Normalize`, together with
            ``proprio_size``; None (default) if not used.
        proprio_size: size Y of the proprioception, default 0.
        hidden: width of each hidden layer, default two of 1024.
        dropout: probability of zeroing a hidden unit in train mode, default 0.5
            (arXiv 2311.02198, section 4.1).
        orthogonal: orthogonal initialisation of head and MLP, as in the original code. Default
            True.
        bounds: (low, high) of the actions, each a number or float [A], such as those of
            ``action_spec.space``; tanh is mapped to them linearly. None (default): -1 and 1.

    Raises:
        ValueError: the bounds are not finite, not ordered, or neither numbers nor of shape [A].

    Example:
        >>> import torch
        >>> from ibrl_torchrl.modules import LinearHead
        >>> actor = FeatureActor(LinearHead((9, 16), size=32), 4, hidden=[64])
        >>> actor(torch.zeros(2, 9, 16)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        head: Head,
        action_size: int,
        *,
        proprio: nn.Module | None = None,
        proprio_size: int = 0,
        hidden: Sequence[int] = (1024, 1024),
        dropout: float = 0.5,
        orthogonal: bool = True,
        bounds: Bounds | None = None,
    ) -> None:
        super().__init__()
        self.head = head
        self.proprio = proprio
        self.mlp = relu_mlp(head.size + proprio_size, hidden, action_size, dropout, layer_norm=True)
        self.bounds = None if bounds is None else ActionBounds(*bounds, action_size)
        if orthogonal:
            orthogonal_(self)

    def forward(self, features: Tensor, *proprio: Tensor) -> Tensor:
        """Map features to actions.

        Args:
            features: float [*, P, D].
            proprio: proprioception float [*, Y], if used.

        Returns:
            float [*, A] in [-1, 1], or in ``bounds``.
        """
        processed = process_proprio(self.proprio, proprio)
        hidden = self.head(features, *processed)
        action = torch.tanh(self.mlp(torch.cat([hidden, *processed], -1)))
        return action if self.bounds is None else self.bounds(action)


class PixelPolicy(nn.Module):
    """Policy network of camera images: encoder and actor.

    Used for imitation policies from pixels, which share no encoder with the RL agent
    (arXiv 2311.02198, appendix E).

    Args:
        encoder: maps camera images to patch features.
        actor: maps features, and proprioception if used, to an action.
    """

    def __init__(self, encoder: CameraEncoder, actor: FeatureActor) -> None:
        super().__init__()
        self.encoder = encoder
        self.actor = actor

    def forward(self, *observations: Tensor) -> Tensor:
        """Map observations to actions.

        Args:
            observations: images uint8 [*, C, H, W] of each camera, then proprioception float
                [*, Y], if used.

        Returns:
            float [*, A] in [-1, 1], or in the actor's ``bounds``.
        """
        num_cameras = len(self.encoder.networks)
        features = self.encoder(*observations[:num_cameras])
        return self.actor(features, *observations[num_cameras:])
