"""Fallback: a proven policy acts until a learning one has proven itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn


class SuccessTest(nn.Module):
    """Test whether a learning policy's recent episodes succeed as often as another policy's.

    Training episodes explore and lag behind the policy, so that the test passes late rather than
    early. It is taken anew after every episode. Its state consists of buffers, which are copied to
    rollout workers and stored in checkpoints.

    Args:
        episodes: number of recent episodes whose success rate counts, at least 1. Default 20.
        margin: a test that has been passed is failed only this far below the reference, as a few
            episodes that explore underestimate the policy; at least 0. Default 0.

    Attributes:
        reference: success rate to reach, float32 []; out of reach until :meth:`require` sets it.
        is_passed: result, bool []; at first False.

    Raises:
        ValueError: ``episodes`` is less than 1, or ``margin`` is negative.

    Example:
        >>> test = SuccessTest(episodes=3)
        >>> test.require(0.5)
        >>> results = []
        >>> for successes in ([True, True], [True, False, False], [False, True, False, True]):
        ...     test.update(successes)
        ...     results.append(bool(test.is_passed))
        >>> results
        [False, False, True]
    """

    reference: Tensor
    is_passed: Tensor

    def __init__(self, episodes: int = 20, *, margin: float = 0.0) -> None:
        super().__init__()
        if episodes < 1:
            raise ValueError(f"episodes must be at least 1, got {episodes}")
        if margin < 0:
            raise ValueError(f"margin must be at least 0, got {margin}")
        self.episodes = episodes
        self.margin = margin
        self.register_buffer("reference", torch.tensor(2.0))
        self.register_buffer("is_passed", torch.tensor(False))

    def require(self, success_rate: float) -> None:
        """Set the success rate to reach, in [0, 1]."""
        self.reference.fill_(success_rate)

    def update(self, successes: Sequence[bool]) -> None:
        """Take the test.

        Args:
            successes: outcomes of the policy's episodes, in order; fewer than ``episodes`` fail.
        """
        margin = self.margin * float(self.is_passed)
        self.is_passed.fill_(self.is_reached(successes, margin=margin))

    def is_reached(self, successes: Sequence[bool], *, margin: float = 0.0) -> bool:
        """Whether the last episodes succeed as often as the reference; the result stays as it is.

        Args:
            successes: outcomes of a policy's episodes, in order; fewer than ``episodes`` do not.
            margin: how far below the reference they may be. Default 0.
        """
        recent = successes[-self.episodes :]
        # Compared in float32: a rate equal to the reference passes.
        rate = torch.tensor(sum(recent) / self.episodes)
        return len(recent) == self.episodes and bool(rate >= self.reference.cpu() - margin)


class FallbackPolicy(TensorDictModuleBase):
    """Policy that another one replaces until it passes a test of success.

    A learning policy may act worse than the imitation policy that it starts from, for as long as
    its critics are wrong; agreement between critics does not help where all of them are. Here
    outcomes decide which of the two is deployed. It is a baseline controller beside a
    high-performance one (Simplex architecture; L. Sha, IEEE Software 18(4), 2001) with an estimate
    in place of a proof; compare high-confidence policy improvement (Thomas et al., ICML 2015).

    Args:
        policy: learning policy, such as the critics' choice among proposals.
        fallback: policy whose success rate is known, such as an imitation policy. What both write
            are the outputs, such as ``action`` and ``proposal``.
        test: test of the learning policy, updated by its owner.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> rl = TensorDictModule(torch.ones_like, ["state"], ["action"])
        >>> bc = TensorDictModule(torch.zeros_like, ["state"], ["action"])
        >>> policy, state = FallbackPolicy(rl, bc, SuccessTest(2)), TensorDict(state=torch.zeros(1))
        >>> policy(state)["action"].item()
        0.0
        >>> policy.test.require(0.5)
        >>> policy.test.update([True, False])
        >>> policy(state)["action"].item()
        1.0
    """

    def __init__(
        self, policy: TensorDictModuleBase, fallback: TensorDictModuleBase, test: SuccessTest
    ) -> None:
        super().__init__()
        self.policy = policy
        self.fallback = fallback
        self.test = test
        self.in_keys = [*dict.fromkeys([*policy.in_keys, *fallback.in_keys])]
        self.out_keys = [key for key in policy.out_keys if key in fallback.out_keys]

    @property
    def active(self) -> TensorDictModuleBase:
        """Policy that acts now."""
        return self.policy if bool(self.test.is_passed) else self.fallback

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Act by the active policy."""
        return self.active(tensordict)
