"""Training loop: collect an episode, store it, update, report."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from tensordict import TensorDictBase

from ibrl_torchrl.data.replay.buffer import Replay
from ibrl_torchrl.errors import NotFinite
from ibrl_torchrl.imitation.self_imitation import SelfImitation
from ibrl_torchrl.keys import EXPLORATION, INTERVENTION, NEXT, PROPOSAL, SUCCESS
from ibrl_torchrl.rollouts.collector import CollectedEpisode
from ibrl_torchrl.runs.tables import (
    INTERVENTION_SHARE,
    RECENT,
    RECENT_SUCCESS,
    imitation_loss_column,
    share_column,
)
from ibrl_torchrl.training.learner import Learner


@dataclass
class Counters:
    """Progress of a run; frames are environment steps after action repeat.

    ``warmup_frames`` are those without updates, ``successes`` whether the policy solved an episode,
    without an intervention, ``exploration_successes`` the same of those episodes alone in which an
    exploration actor acted.
    """

    frames: int = 0
    warmup_frames: int = 0
    episodes: int = 0
    rounds: int = 0
    successes: list[bool] = field(default_factory=list)
    exploration_successes: list[bool] = field(default_factory=list)
    seconds: dict[str, float] = field(
        default_factory=lambda: {"collect": 0.0, "update": 0.0, "other": 0.0}
    )

    @property
    def recent_success(self) -> float:
        """Success rate of the last ``RECENT`` training episodes."""
        recent = self.successes[-RECENT:]
        return sum(recent) / max(1, len(recent))


def train(
    episodes: Iterator[CollectedEpisode],
    learner: Learner,
    replay: Replay,
    counters: Counters,
    *,
    total_frames: int,
    frames_per_round: int,
    proposals: Sequence[str],
    device: torch.device,
    on_episode: Callable[[dict[str, float]], None],
    warmup_updates: bool = False,
    actor_after: int = 0,
    self_imitation: Mapping[str, SelfImitation] | None = None,
) -> None:
    """Train until ``total_frames`` environment steps have been collected.

    After each episode the learner runs as many rounds as its frames allow: one for every
    ``frames_per_round`` frames, exactly, for any episode lengths and any number of workers. Frames
    of the warm-up count with ``warmup_updates``.

    Args:
        episodes: infinite iterator of training episodes.
        learner: learner that runs the rounds.
        replay: replay buffer of the episodes.
        counters: progress, updated in place; training resumes from it.
        total_frames: budget of frames, warm-up included.
        frames_per_round: frames for each round of updates.
        proposals: names of the proposals, in the order of the index ``proposal``.
        device: device of the batches.
        on_episode: function called after each episode and its rounds with its metrics and with the
            means of the metrics of all updates.
        warmup_updates: learn during the warm-up, too; default False.
        actor_after: frames before the actor's first update; until then the critics learn alone.
            Default 0.
        self_imitation: training of imitation policies that go on learning, by name; it comes before
            the rounds, so that their targets use the new proposals. None (default): none.

    Raises:
        NotFinite: an episode or a metric has a value that is NaN or inf.
    """
    clock = _Clock(counters.seconds)
    while counters.frames < total_frames:
        episode, is_warmup = next(episodes)
        clock.charge("collect")
        _require_finite_episode(episode, counters)
        replay.extend(episode)
        counters.frames += len(episode)
        counters.episodes += 1
        counters.successes.append(_is_solved_alone(episode))
        if is_warmup and not warmup_updates:
            counters.warmup_frames = counters.frames
        metrics = _episode_metrics(episode, counters, proposals)
        if metrics.get(share_column("acting", EXPLORATION), 0.0) > 0:
            counters.exploration_successes.append(counters.successes[-1])
        clock.charge("other")
        for name, training in (self_imitation or {}).items():
            loss = training.after_episode(episode, counters.frames)
            if loss is not None:
                metrics[imitation_loss_column(name)] = loss
        due = (counters.frames - counters.warmup_frames) // frames_per_round
        if due > counters.rounds:
            critics_only = counters.frames < actor_after
            rounds = [
                learner.round(replay, device, critics_only=critics_only)
                for _ in range(due - counters.rounds)
            ]
            metrics |= _means(rounds, counters)
            counters.rounds = due
            clock.charge("update")
        on_episode(metrics)
        clock.charge("other")


class _Clock:
    """Stopwatch that adds the time since its last reading to one of several accounts."""

    def __init__(self, accounts: dict[str, float]) -> None:
        self._accounts = accounts
        self._last = time.perf_counter()

    def charge(self, account: str) -> None:
        now = time.perf_counter()
        self._accounts[account] += now - self._last
        self._last = now


def _is_solved_alone(episode: TensorDictBase) -> bool:
    """Whether an episode is a success without an intervention."""
    intervention = episode.get(INTERVENTION, None)
    is_alone = intervention is None or not bool(intervention.any())
    return is_alone and bool(episode[NEXT, SUCCESS].any())


def _episode_metrics(
    episode: TensorDictBase, counters: Counters, proposals: Sequence[str]
) -> dict[str, float]:
    shares = {
        share_column("acting", name): (episode[PROPOSAL] == index).float().mean().item()
        for index, name in enumerate(proposals)
    }
    if (intervention := episode.get(INTERVENTION, None)) is not None:
        shares[INTERVENTION_SHARE] = intervention.float().mean().item()
    return {
        "episode_success": float(episode[NEXT, SUCCESS].any()),
        RECENT_SUCCESS: counters.recent_success,
        "episode_frames": float(len(episode)),
        **shares,
    }


def _means(rounds: list[list[dict[str, torch.Tensor]]], counters: Counters) -> dict[str, float]:
    """Means over all updates of some rounds, in one transfer from the device.

    Raises:
        NotFinite: names the first metric of the first update that is not finite.
    """
    entries = [
        (number, name, value)
        for number, updates in enumerate(rounds, counters.rounds + 1)
        for update in updates
        for name, value in update.items()
    ]
    values: dict[str, list[float]] = defaultdict(list)
    numbers = torch.stack([value for *_, value in entries]).tolist()
    for (number, name, _), value in zip(entries, numbers, strict=True):
        if not math.isfinite(value):
            raise NotFinite(
                f"{name} became {value} in round {number}, by frame {counters.frames}; lower "
                "algo.update.lr or check the data"
            )
        values[name].append(value)
    return {name: sum(each) / len(each) for name, each in values.items()}


def _require_finite_episode(episode: TensorDictBase, counters: Counters) -> None:
    for key, values in episode.items(True, True):
        if values.is_floating_point() and not bool((finite := values.isfinite()).all()):
            step = int(torch.nonzero(~finite)[0, 0])
            name = key if isinstance(key, str) else ".".join(key)
            raise NotFinite(
                f"{name} of episode {counters.episodes + 1} is not finite at step {step}; the "
                "simulation has become unstable: lower algo.exploration_noise or task.action_repeat"
            )
