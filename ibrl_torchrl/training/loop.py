"""The training loop: take an episode, store it, update, report."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from tensordict import TensorDictBase

from ibrl_torchrl.data.replay.buffer import Replay
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import NEXT, PROPOSAL, SUCCESS
from ibrl_torchrl.rollouts.collector import CollectedEpisode
from ibrl_torchrl.training.learner import Learner


@dataclass
class Counters:
    """Where a run stands; frames are environment steps after action repeat."""

    frames: int = 0
    warmup_frames: int = 0
    episodes: int = 0
    rounds: int = 0
    successes: list[bool] = field(default_factory=list)
    seconds: dict[str, float] = field(
        default_factory=lambda: {"collect": 0.0, "update": 0.0, "other": 0.0}
    )

    @property
    def recent_success(self) -> float:
        """Success rate of the last 20 training episodes."""
        recent = self.successes[-20:]
        return sum(recent) / max(1, len(recent))


class NotFinite(UsageError):
    """Learning went wrong: a number is no number any more."""


def train(
    collection: Iterator[CollectedEpisode],
    learner: Learner,
    replay: Replay,
    progress: Counters,
    *,
    frames: int,
    update_every: int,
    device: torch.device,
    on_episode: Callable[[dict[str, float]], None],
) -> None:
    """Train until ``frames`` environment steps have been taken.

    After each episode come the rounds that its frames have earned: one for every ``update_every``
    frames, whatever the episode lengths and however many environments there are. Nothing is owed
    for the warm-up.

    Args:
        collection: gives the episodes.
        learner: runs the rounds.
        replay: takes whole episodes.
        progress: where to go on; it is kept up to date.
        frames: total budget, warm-up included.
        update_every: frames a round.
        device: where batches are put.
        on_episode: called after each episode and its rounds with the means of what their updates
            reported (without rounds, of the episode alone).

    Raises:
        NotFinite: an episode or a loss has a number that is not finite.
    """
    clock = _Clock(progress.seconds)
    while progress.frames < frames:
        episode, is_warmup = next(collection)
        clock.charge("collect")
        _require_finite_episode(episode, progress)
        replay.extend(episode)
        progress.frames += len(episode)
        progress.episodes += 1
        progress.successes.append(bool(episode[NEXT, SUCCESS].any()))
        if is_warmup:
            progress.warmup_frames = progress.frames
        report = {
            "episode_success": float(progress.successes[-1]),
            "episode_frames": float(len(episode)),
            "il_share": (episode[PROPOSAL] > 0).float().mean().item(),
        }
        clock.charge("other")
        due = (progress.frames - progress.warmup_frames) // update_every
        if due > progress.rounds:
            rounds = [learner.round(replay, device) for _ in range(due - progress.rounds)]
            report |= _means(rounds, progress)
            progress.rounds = due
            clock.charge("update")
        on_episode(report)
        clock.charge("other")


class _Clock:
    """Charges the time since the last charge to one of several accounts."""

    def __init__(self, accounts: dict[str, float]) -> None:
        self._accounts = accounts
        self._last = time.perf_counter()

    def charge(self, account: str) -> None:
        now = time.perf_counter()
        self._accounts[account] += now - self._last
        self._last = now


def _means(rounds: list[list[dict[str, torch.Tensor]]], progress: Counters) -> dict[str, float]:
    """Means over all updates of some rounds, in one transfer from the device.

    Raises:
        NotFinite: names the first number of the first update that is not.
    """
    reported = [
        (number, name, value)
        for number, updates in enumerate(rounds, progress.rounds + 1)
        for update in updates
        for name, value in update.items()
    ]
    values: dict[str, list[float]] = defaultdict(list)
    numbers = torch.stack([value for *_, value in reported]).tolist()
    for (number, name, _), value in zip(reported, numbers, strict=True):
        if not math.isfinite(value):
            raise NotFinite(
                f"{name} became {value} in round {number}, by frame {progress.frames}; lower "
                "algo.lr or check the data"
            )
        values[name].append(value)
    return {name: sum(each) / len(each) for name, each in values.items()}


def _require_finite_episode(episode: TensorDictBase, progress: Counters) -> None:
    for key, values in episode.items(True, True):
        if values.is_floating_point() and not bool((finite := values.isfinite()).all()):
            step = int(torch.nonzero(~finite)[0, 0])
            name = key if isinstance(key, str) else ".".join(key)
            raise NotFinite(
                f"{name} of episode {progress.episodes + 1} is not finite at step {step}; the "
                "simulation has become unstable: lower algo.exploration_noise or task.action_repeat"
            )
