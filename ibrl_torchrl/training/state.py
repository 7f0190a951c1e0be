"""Checkpoints of a run: saving and restoring everything that training changes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.checkpoint import GlobalRNGState

from ibrl_torchrl.console import echo
from ibrl_torchrl.data.replay.buffer import Replay
from ibrl_torchrl.episodes import pack_episode, require_same_shapes, unpack_episode
from ibrl_torchrl.errors import UsageError, brief
from ibrl_torchrl.files import link_or_copy
from ibrl_torchrl.imitation.self_imitation import SelfImitation
from ibrl_torchrl.modules import SuccessTest
from ibrl_torchrl.rollouts.collector import EpisodeCollector
from ibrl_torchrl.runs.checkpoint import (
    FALLBACK,
    KIND,
    SELF_IMITATION,
    load_checkpoint,
    load_state,
    require_state,
    save_checkpoint,
)
from ibrl_torchrl.runs.contents import (
    entry,
    number,
    require_adam_state,
    require_packed_episode,
    require_random_state,
)
from ibrl_torchrl.runs.episode_log import EpisodeLog
from ibrl_torchrl.runs.manifest import EPISODE_FILES, REPLAY_FILES, remove
from ibrl_torchrl.runs.names import CHECKPOINT, EPISODES, EVAL, PREVIOUS, TRAIN
from ibrl_torchrl.runs.origin import Origin, stored_origin
from ibrl_torchrl.runs.tables import require_length
from ibrl_torchrl.training.learner import Learner
from ibrl_torchrl.training.loop import Counters


@dataclass
class LoggerState:
    """State of the run's logger that a checkpoint keeps.

    Attributes:
        train_size: bytes of ``train.csv``; None before the first row.
        eval_size: bytes of ``eval.csv``.
        best: best success rate of the hybrid.
        wall: seconds since the start of the run.
        evaluating: seconds spent waiting for evaluations.
        saving: seconds spent on checkpoints before this one.
    """

    train_size: int | None = None
    eval_size: int | None = None
    best: float = -1.0
    wall: float = 0.0
    evaluating: float = 0.0
    saving: float = 0.0


@dataclass
class TrainingState:
    """Parts of a run that training changes.

    A checkpoint holds networks, targets, optimisers, counters, random states, priorities, the
    episodes in flight, and the settings, versions and hashes of inputs that it belongs to.
    Completed episodes are in the log, each written once, as long as the replay keeps them.

    Attributes:
        run_dir: run folder.
        task: task of the networks.
        learner: learner, with networks, targets and optimisers.
        replay: replay buffer, refilled from the log.
        log: log of completed episodes.
        collector: collector, with the episodes in flight.
        counters: progress.
        example: demonstration, whose shapes every episode has.
        origin: settings, versions and inputs of the run.
        self_imitation: training of imitation policies that go on learning, by name. Default none.
        fallback: test of the hybrid, which decides who is deployed. Default none.
    """

    run_dir: Path
    task: str
    learner: Learner
    replay: Replay
    log: EpisodeLog
    collector: EpisodeCollector
    counters: Counters
    example: TensorDictBase
    origin: Origin
    self_imitation: Mapping[str, SelfImitation] = field(default_factory=dict)
    fallback: SuccessTest | None = None
    # The last checkpoint could not be read: it must not replace the previous one.
    _is_damaged: bool = field(default=False, init=False)

    def networks(self) -> dict[str, Any]:
        """State of all networks that training changes, as ``ibrl eval`` loads it."""
        networks: dict[str, Any] = {"loss": self.learner.loss.state_dict()}
        if self.fallback is not None:
            networks[FALLBACK] = self.fallback.state_dict()
        if self.self_imitation:
            networks[SELF_IMITATION] = {
                name: {"policy": each.state_dict()["policy"]}
                for name, each in self.self_imitation.items()
            }
        return networks

    def save(self, logger: LoggerState) -> None:
        """Write a checkpoint; the last one is kept as the previous one.

        Raises:
            UsageError: it cannot be written; earlier checkpoints stay.
        """
        path = self.run_dir / CHECKPOINT
        in_flight = map(pack_episode, self.collector.in_flight())
        state = self.learner.state_dict() | {
            "in_flight": {str(i): episode for i, episode in enumerate(in_flight)},
            "samplers": self.replay.sampler_state_dict(),
            "random": GlobalRNGState().state_dict(),
        }
        if self.fallback is not None:
            state[FALLBACK] = self.fallback.state_dict()
        if self.self_imitation:
            state[SELF_IMITATION] = {
                name: each.state_dict() for name, each in self.self_imitation.items()
            }
        meta = {
            "task": self.task,
            "frames": self.counters.frames,
            "counters": asdict(self.counters),
            "logger": asdict(logger),
            "origin": self.origin,
        }
        self.log.flush()
        if path.exists() and not self._is_damaged:
            link_or_copy(path, self.run_dir / PREVIOUS)
        save_checkpoint(path, KIND, meta, state)
        self._is_damaged = False
        self.log.prune()
        _warn_of_little_space(path)

    def save_networks(self, name: str, frames: int, networks: Mapping[str, Any]) -> None:
        """Write the result of :meth:`networks` alone to a file of the run folder."""
        meta = {"task": self.task, "frames": frames, "origin": self.origin}
        save_checkpoint(self.run_dir / name, KIND, meta, dict(networks))

    def require_fits(self, checkpoint: Checkpoint) -> None:
        """Refuse a checkpoint that does not fit this run, before anything of it is applied.

        Raises:
            UsageError: names the first difference in networks, optimisers, random states, episodes
                in flight or tables.
        """
        self.learner.require_fits(checkpoint.state, checkpoint.path)
        self._require_self_imitation_fits(checkpoint)
        if self.fallback is not None:
            state = entry(checkpoint.state, FALLBACK, dict, checkpoint.path)
            require_state(self.fallback, state, checkpoint.path)
        require_random_state(entry(checkpoint.state, "random", dict, checkpoint.path), checkpoint)
        entry(checkpoint.state, "samplers", dict, checkpoint.path)
        for episode in checkpoint.in_flight:
            require_same_shapes(episode, self.example, checkpoint)
        sizes = {TRAIN: checkpoint.logger.train_size, EVAL: checkpoint.logger.eval_size}
        for name, size in sizes.items():
            if size is not None:
                require_length(self.run_dir / name, size)

    def _require_self_imitation_fits(self, checkpoint: Checkpoint) -> None:
        path = checkpoint.path
        if not self.self_imitation:
            return
        states = entry(checkpoint.state, SELF_IMITATION, dict, path)
        for name, training in self.self_imitation.items():
            state = entry(states, name, dict, path)
            require_state(training.trained, entry(state, "policy", dict, path), path)
            optimizer = entry(state, "optimizer", dict, path)
            require_adam_state(optimizer, training.optimizer, f"{SELF_IMITATION}.{name}", path)
            rounds = entry(state, "rounds", int, path)
            if not 0 <= rounds <= checkpoint.counters.frames:
                raise UsageError(
                    f"{path}: counts {rounds} rounds of {name} in {checkpoint.counters.frames} "
                    "frames; start the run again"
                )

    def restore(self, checkpoint: Checkpoint, *, refill: bool) -> None:
        """Load a checkpoint; random states are restored last, so call this last.

        Args:
            checkpoint: checkpoint of this run, which :meth:`require_fits` has accepted.
            refill: fill the replay from the log, for a run that continues to learn.

        Raises:
            UsageError: the checkpoint is of other networks, or the log is incomplete.
        """
        self._is_damaged = checkpoint.path.name == PREVIOUS
        self.learner.load_state_dict(checkpoint.state, checkpoint.path)
        if self.fallback is not None:
            load_state(self.fallback, checkpoint.state[FALLBACK], checkpoint.path)
        for name, training in self.self_imitation.items():
            training.load_state_dict(checkpoint.state[SELF_IMITATION][name])
        if refill:
            for logged in self.log.read(self.counters.episodes):
                require_same_shapes(logged.episode, self.example, self.run_dir / EPISODES)
                self.replay.skip(logged.skipped, logged.skipped_successful)
                self.replay.extend(logged.episode)
                for training in self.self_imitation.values():
                    training.skip(logged.skipped_successful)
                    training.extend(logged.episode)
            self._load_samplers(checkpoint)
        GlobalRNGState().load_state_dict(checkpoint.state["random"])

    def _load_samplers(self, checkpoint: Checkpoint) -> None:
        try:
            self.replay.load_sampler_state_dict(checkpoint.state["samplers"])
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise UsageError(
                f"{checkpoint}: holds invalid priorities ({brief(error)}); start the run again"
            ) from error

    def remove_temporary(self, *, keep_episodes: bool = False) -> None:
        """Remove what only an interrupted run needs, but for its episodes if they are kept."""
        episodes = () if keep_episodes else (EPISODE_FILES,)
        remove(self.run_dir, (*episodes, *REPLAY_FILES, PREVIOUS))


@dataclass(frozen=True)
class Checkpoint:
    """Contents of a checkpoint.

    Attributes:
        path: file of the checkpoint.
        counters: progress.
        in_flight: episodes that were submitted and not yet taken.
        logger: state of the logger.
        origin: settings, versions and inputs of the run.
        state: everything else.
    """

    path: Path
    counters: Counters
    in_flight: list[TensorDict]
    logger: LoggerState
    origin: Origin
    state: dict[str, Any]

    def __str__(self) -> str:
        return str(self.path)


def read_checkpoint(run_dir: Path, task: str) -> Checkpoint:
    """Read the last checkpoint of a run, or the previous one where that is damaged or missing.

    Raises:
        UsageError: neither can be read, or it is of another task or version.
    """
    path = run_dir / CHECKPOINT
    try:
        meta, state = load_checkpoint(path, KIND, {"task": task})
    except UsageError as error:
        path = run_dir / PREVIOUS
        if not path.exists():
            raise
        echo(f"warning: {error}; resuming from {path.name}")
        meta, state = load_checkpoint(path, KIND, {"task": task})
    in_flight = entry(state, "in_flight", dict, path)
    for index in range(len(in_flight)):
        where = f"{path}: in_flight.{index}"
        require_packed_episode(in_flight.get(str(index)), where)
        for name in ("root/proposal", "next/success"):  # that training reads of it
            entry(in_flight[str(index)], name, Tensor, where)
    episodes = [unpack_episode(in_flight[str(index)]) for index in range(len(in_flight))]
    counters = _counters(entry(meta, "counters", dict, path), path)
    logger, origin = _logger_state(meta, path), stored_origin(meta, path)
    return Checkpoint(path, counters, episodes, logger, origin, state)


def _counters(stored: dict[str, Any], path: Path) -> Counters:
    """Progress of a checkpoint.

    Raises:
        UsageError: a number is missing, negative, or does not fit the others.
    """
    successes = entry(stored, "successes", list, path)
    exploration_successes = entry(stored, "exploration_successes", list, path)
    seconds = entry(stored, "seconds", dict, path)
    counters = Counters(
        frames=entry(stored, "frames", int, path),
        warmup_frames=entry(stored, "warmup_frames", int, path),
        episodes=entry(stored, "episodes", int, path),
        rounds=entry(stored, "rounds", int, path),
        successes=successes,
        exploration_successes=exploration_successes,
        seconds={name: number(seconds, name, path) for name in Counters().seconds},
    )
    if (
        not 0 <= counters.warmup_frames <= counters.frames
        or not 0 <= counters.rounds <= counters.frames
        or counters.episodes != len(successes)
        or len(exploration_successes) > len(successes)
        or not all(isinstance(each, bool) for each in [*successes, *exploration_successes])
    ):
        raise UsageError(
            f"{path}: counts {counters.frames} frames, {counters.warmup_frames} of warm-up, "
            f"{counters.rounds} rounds and {counters.episodes} episodes, which do not fit; start "
            "the run again"
        )
    return counters


def _logger_state(meta: dict[str, Any], path: Path) -> LoggerState:
    """State of the logger of a checkpoint.

    Raises:
        UsageError: a number is missing or out of range.
    """
    stored = entry(meta, "logger", dict, path)
    train_size = stored.get("train_size")
    return LoggerState(
        train_size=None if train_size is None else int(number(stored, "train_size", path)),
        eval_size=int(number(stored, "eval_size", path)),
        best=number(stored, "best", path, low=-1, high=1),
        **{name: number(stored, name, path) for name in ("wall", "evaluating", "saving")},
    )


def _warn_of_little_space(path: Path) -> None:
    free, needed = shutil.disk_usage(path.parent).free, path.stat().st_size
    if free < 10 * needed:
        echo(
            f"warning: {free / 1e6:.0f} MB are left on the disk of {path.parent}, "
            f"a checkpoint takes {needed / 1e6:.0f}; free some"
        )
