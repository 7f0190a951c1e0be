"""Behaviour cloning that goes on during RL, on demonstrations and successful episodes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import nn

from ibrl_torchrl.imitation.train import imitation_step, require_finite
from ibrl_torchrl.keys import NEXT, SUCCESS


class EpisodeBuffer(Protocol):
    """Replay buffer of episodes, see :class:`~ibrl_torchrl.data.replay.EpisodeReplayBuffer`."""

    def extend(self, episode: TensorDictBase, /) -> object:
        """Add one complete episode [T]."""

    def skip(self, transitions: int, /) -> None:
        """Advance the place of the next transition."""

    def sample(self) -> TensorDictBase:
        """Draw a batch of transitions [B]."""


class SelfImitation:
    """Behaviour cloning of a proposer on demonstrations and successful online episodes.

    EXPO (arXiv 2507.07986) trains its base policy during RL by imitation alone, so that it proposes
    what the agent has found since. Here, every ``every`` frames a copy of the policy is trained
    for ``steps`` steps; then its weights replace those of the policy, in place. The policy that
    losses, rollouts and evaluations share stays frozen: it is in eval mode and has no gradients.
    No step is taken before the first success, since the policy was trained on the demonstrations.

    Args:
        policy: network of the frozen policy.
        make_loss: makes the loss of a network, such as TorchRL's ``BCLoss``, on its parameters.
        data: replay buffer that is extended by episodes and holds the demonstrations; its samples
            are batches of what the loss reads.
        every: frames between the starts of two rounds of updates.
        steps: optimiser steps of a round (Adam, whose moments are kept).
        lr: learning rate.
        grad_clip: bound of the gradient's norm; None (default): none.

    Attributes:
        trained: copy of the network, in train mode.
        optimizer: its optimiser.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> from torchrl.objectives import BCLoss
        >>> from ibrl_torchrl.data.replay import EpisodeToTransitions, episode_buffer
        >>> policy = torch.nn.Linear(2, 1).requires_grad_(False)
        >>> def make_loss(network):
        ...     return BCLoss(TensorDictModule(network, ["state"], ["action"]), loss_function="l2")
        >>> data = episode_buffer(100, 16, EpisodeToTransitions(["state"], n_steps=1))
        >>> training = SelfImitation(policy, make_loss, data, every=5, steps=2, lr=1e-3)
        >>> end = torch.tensor([[False], [True]])
        >>> after = {"state": torch.zeros(2, 2), "success": end, "terminated": end, "done": end}
        >>> after |= {"reward": end.float(), "truncated": torch.zeros_like(end)}
        >>> states, actions = torch.zeros(2, 2), torch.ones(2, 1)
        >>> episode = TensorDict({"state": states, "action": actions, "next": after}, [2])
        >>> before = policy(torch.zeros(2)).item()
        >>> training.after_episode(episode, frames=2) is None  # not yet due
        True
        >>> training.after_episode(episode, frames=5) > 0, policy(torch.zeros(2)).item() > before
        (True, True)
    """

    def __init__(
        self,
        policy: nn.Module,
        make_loss: Callable[[Any], TensorDictModuleBase],
        data: EpisodeBuffer,
        *,
        every: int,
        steps: int,
        lr: float,
        lr_name: str = "lr",
        grad_clip: float | None = None,
    ) -> None:
        self._policy = policy
        self.trained = copy.deepcopy(policy).requires_grad_(True).train()
        self._loss = make_loss(self.trained)
        self._data = data
        self._every = every
        self._steps = steps
        self._lr, self._lr_name = lr, lr_name
        self._grad_clip = grad_clip
        self.optimizer = torch.optim.Adam(self.trained.parameters(), lr=lr, fused=True)
        self._rounds = 0
        self._num_successes = 0

    def after_episode(self, episode: TensorDictBase, frames: int) -> float | None:
        """Store an episode if it is successful, and train if a round is due.

        Args:
            episode: completed online episode, TensorDict [T] whose ``action`` was executed.
            frames: frames of the run so far, with those of the episode.

        Returns:
            Mean loss of the steps; None where none was taken.

        Raises:
            UsageError: the loss is not finite.
        """
        self.extend(episode)
        due = frames // self._every
        rounds, self._rounds = due - self._rounds, due
        if not rounds or not self._num_successes:
            return None
        device = next(self.trained.parameters()).device
        losses = [
            imitation_step(
                self._loss, self._data.sample().to(device), self.optimizer, self._grad_clip
            )
            for _ in range(rounds * self._steps)
        ]
        loss = torch.stack(losses).mean()
        require_finite(loss, self._lr_name, self._lr)
        self._update_policy()
        return loss.item()

    def extend(self, episode: TensorDictBase) -> None:
        """Store an episode, TensorDict [T], if it is successful."""
        if episode[NEXT, SUCCESS].any():
            self._data.extend(episode)
            self._num_successes += 1

    def skip(self, successful: int) -> None:
        """Advance the place of the next transition in the buffer, over some that have been lost.

        Args:
            successful: transitions of successful episodes, which the buffer would have overwritten.
        """
        self._data.skip(successful)
        self._num_successes += successful > 0

    def state_dict(self) -> dict[str, Any]:
        """State of the policy, the optimiser and the number of rounds; not the stored episodes."""
        return {
            "policy": self.trained.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rounds": self._rounds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what :meth:`state_dict` returned; :meth:`extend` stores the episodes again."""
        self.trained.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._rounds = state["rounds"]
        self._update_policy()

    def _update_policy(self) -> None:
        """Copy the weights in place: rollout workers and losses hold the policy's own tensors."""
        self._policy.load_state_dict(self.trained.state_dict())
