"""The training loop: collect, extend, update, evaluate, log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.collectors import Collector
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import NEXT, PROPOSAL, SUCCESS
from ibrl_torchrl.training.learner import IBRLLearner, Replay


@dataclass
class Progress:
    """Where a run stands; frames are environment steps after action repeat."""

    frames: int = 0
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


# Steps that the collector takes at a time. A larger number spends less on each, and lets more
# first steps of an episode be taken before the updates that the last one earned.
_POLL = 10


def episodes(env: EnvBase, policy: TensorDictModuleBase) -> Iterator[TensorDictBase]:
    """Yield complete episodes [T] of a policy, for ever, as the environments finish them."""
    collector = Collector(
        env,
        policy,
        frames_per_batch=_POLL * env.batch_size.numel(),
        total_frames=-1,
        trajs_per_batch=1,
        traj_format="cat",
        exploration_type=ExplorationType.RANDOM,
        auto_register_policy_transforms=False,
    )
    try:
        yield from collector
    finally:
        collector.shutdown(close_env=False)


def train(
    env: EnvBase,
    warmup: TensorDictModuleBase,
    explore: TensorDictModuleBase,
    learner: IBRLLearner,
    replay: Replay,
    *,
    frames: int,
    warmup_episodes: int,
    update_every: int,
    device: torch.device,
    on_episode: Callable[[Progress, dict[str, float]], None],
) -> Progress:
    """Train until ``frames`` environment steps have been taken.

    ``warmup_episodes`` of the imitation policy come first. Then, after each episode of the
    exploring policy, the rounds that its frames have earned: one for every ``update_every``
    frames, whatever the episode lengths (nothing is owed for the warm-up).

    Args:
        env: collects, one environment or a batch of them; its start states follow from its seed.
        warmup: policy of the first episodes.
        explore: policy of all others; it may share tensors with the learner's networks.
        learner: runs the rounds.
        replay: takes whole episodes.
        frames: total budget, warm-up included.
        warmup_episodes: episodes before learning starts.
        update_every: frames a round.
        device: where batches are put.
        on_episode: called after each episode and its rounds with the progress and the means of
            what the rounds reported (empty without rounds).

    Raises:
        UsageError: a loss stopped being finite.
    """
    progress = Progress()
    clock = _Clock(progress.seconds)
    for policy, limit in ((warmup, warmup_episodes), (explore, None)):
        learning_since = progress.frames
        for episode in islice(episodes(env, policy), limit):
            clock.charge("collect")
            episode = episode.cpu()
            replay.extend(episode)
            progress.frames += len(episode)
            progress.episodes += 1
            progress.successes.append(bool(episode[NEXT, SUCCESS].any()))
            report = {
                "episode_success": float(progress.successes[-1]),
                "episode_frames": float(len(episode)),
                "il_share": (episode[PROPOSAL] > 0).float().mean().item(),
            }
            clock.charge("other")
            due = (progress.frames - learning_since) // update_every if limit is None else 0
            if due > progress.rounds:
                reports = [learner.round(replay, device) for _ in range(due - progress.rounds)]
                progress.rounds = due
                report |= _means(reports)
                _check_finite(report, progress)
                clock.charge("update")
            on_episode(progress, report)
            clock.charge("other")
            if progress.frames >= frames:
                return progress
    return progress


class _Clock:
    """Charges the time since the last charge to one of several accounts."""

    def __init__(self, accounts: dict[str, float]) -> None:
        self._accounts = accounts
        self._last = time.perf_counter()

    def charge(self, account: str) -> None:
        now = time.perf_counter()
        self._accounts[account] += now - self._last
        self._last = now


def _means(reports: list[dict[str, torch.Tensor]]) -> dict[str, float]:
    return {
        key: torch.stack([report[key] for report in reports]).mean().item() for key in reports[0]
    }


def _check_finite(report: dict[str, float], progress: Progress) -> None:
    for key, value in report.items():
        if not math.isfinite(value):
            raise UsageError(
                f"{key} became {value} at frame {progress.frames}; lower algo.lr or check the data"
            )
