"""Refusal of several episodes at once, for transforms that read an episode as a whole."""

from __future__ import annotations

from tensordict import TensorDictBase
from torchrl.envs.transforms import Transform

from ibrl_torchrl.keys import DONE, NEXT


def require_one_episode(steps: TensorDictBase, transform: Transform) -> None:
    """Refuse steps [T] of which one before the last is ``done``.

    Args:
        steps: steps before n-step windows; without ``done`` flags they are taken for one episode.
        transform: transform that would mix the episodes, for the message.

    Raises:
        ValueError: they are of several episodes.
    """
    done = steps.get((NEXT, DONE), None)
    if done is not None and bool(done[:-1].any()):
        raise not_one_episode(transform)


def not_one_episode(transform: Transform) -> ValueError:
    """Error for data that is not one complete episode."""
    return ValueError(
        f"{type(transform).__name__} takes one complete episode at a time; pass "
        "trajs_per_batch=1 and trajs_per_write=1 to the collector"
    )
