"""Everything that changes while a run goes on, saved so that it can go on as if never stopped."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from ibrl_torchrl.console import echo
from ibrl_torchrl.data.replay.buffer import Replay
from ibrl_torchrl.data.replay.mixing import samplers
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import atomic_path
from ibrl_torchrl.rollouts.collector import EpisodeCollector
from ibrl_torchrl.runs.checkpoint import KIND, load_checkpoint, save_checkpoint
from ibrl_torchrl.runs.episode_log import EpisodeLog
from ibrl_torchrl.runs.folder import CHECKPOINT, PREVIOUS
from ibrl_torchrl.training.learner import Learner
from ibrl_torchrl.training.loop import Counters


@dataclass
class LoggerState:
    """What of the records a checkpoint keeps.

    Attributes:
        train_size: bytes of ``train.csv``; None before the first row.
        eval_size: bytes of ``eval.csv``.
        best: the hybrid's best success rate.
        wall: seconds since the beginning.
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
    """The parts of a run that change.

    A checkpoint holds networks, targets and optimisers, counters, random states, priorities, and
    the episodes that were begun ahead; those before are in the log, each written once.

    Attributes:
        run_dir: the run's folder.
        task: what the networks belong to.
        learner: networks, targets and optimisers.
        replay: filled from the log.
        log: the episodes.
        collection: those begun ahead.
        progress: counters.
    """

    run_dir: Path
    task: str
    learner: Learner
    replay: Replay
    log: EpisodeLog
    collection: EpisodeCollector
    progress: Counters

    def save(self, records: LoggerState) -> None:
        """Write a checkpoint; the last one stays as the previous one.

        Args:
            records: of the recorder.

        Raises:
            UsageError: it cannot be written; what was saved before stays.
        """
        path = self.run_dir / CHECKPOINT
        ahead = {str(i): _tensors(each) for i, each in enumerate(self.collection.in_flight())}
        state = self.learner.state_dict() | {
            "ahead": ahead,
            "samplers": {name: each.state_dict() for name, each in samplers(self.replay).items()},
            "random": _random_states(),
        }
        meta = {
            "task": self.task,
            "frames": self.progress.frames,
            "progress": asdict(self.progress),
            "records": asdict(records),
        }
        self.log.flush()
        _keep(path, self.run_dir / PREVIOUS)
        save_checkpoint(path, KIND, meta, state)
        _warn_of_little_space(path)

    def save_networks(self, name: str, frames: int, networks: dict[str, Any]) -> None:
        """Write the networks and targets of some frame alone, to a file of the run folder."""
        meta = {"task": self.task, "frames": frames}
        save_checkpoint(self.run_dir / name, KIND, meta, {"loss": networks})

    def restore(self, saved: Checkpoint, *, learns_on: bool) -> None:
        """Go on from a checkpoint; random states are put back last, so call this last.

        Args:
            saved: the checkpoint.
            learns_on: whether there is more to learn, for which the replay is filled again.

        Raises:
            UsageError: the checkpoint is of other networks, or the log is incomplete.
        """
        self.learner.load_state_dict(saved.state, saved.path)
        if learns_on:
            for episode in self.log.read(self.progress.episodes):
                self.replay.extend(episode)
            for name, sampler in samplers(self.replay).items():
                sampler.load_state_dict(saved.state["samplers"][name])
        _set_random_states(saved.state["random"])

    def tidy(self) -> None:
        """Remove what only an interrupted run needs."""
        self.log.remove()
        (self.run_dir / PREVIOUS).unlink(missing_ok=True)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        path: its file.
        progress: counters.
        ahead: episodes that were begun and not taken.
        records: of the recorder.
        state: everything else.
    """

    path: Path
    progress: Counters
    ahead: list[TensorDict]
    records: LoggerState
    state: dict[str, Any]


def read_checkpoint(run_dir: Path, task: str) -> Checkpoint:
    """Read the last checkpoint of a run, or the one before where that is damaged.

    Raises:
        UsageError: neither can be read, or it is of another task or from before runs could be
            resumed.
    """
    path = run_dir / CHECKPOINT
    try:
        meta, state = load_checkpoint(path, KIND, {"task": task})
    except UsageError as error:
        path = run_dir / PREVIOUS
        if not path.exists():
            raise
        echo(f"warning: {error}; going on from {path.name}")
        meta, state = load_checkpoint(path, KIND, {"task": task})
    if "random" not in state:
        raise UsageError(f"{path}: was written before runs could be resumed; begin the run anew")
    ahead = [_episode(state["ahead"][str(i)]) for i in range(len(state["ahead"]))]
    try:
        progress, records = Counters(**meta["progress"]), LoggerState(**meta["records"])
    except TypeError as error:
        raise UsageError(
            f"{path}: was written by another version of this program; begin the run anew"
        ) from error
    return Checkpoint(path, progress, ahead, records, state)


def _keep(path: Path, name: Path) -> None:
    """Give a file a second name, so that it stays when the first is given to another."""
    if path.exists():
        with atomic_path(name) as temporary:
            temporary.unlink()
            os.link(path, temporary)


def _warn_of_little_space(path: Path) -> None:
    free, needed = shutil.disk_usage(path.parent).free, path.stat().st_size
    if free < 10 * needed:
        echo(
            f"warning: {free / 1e6:.0f} MB are left on the disk of {path.parent}, "
            f"a checkpoint takes {needed / 1e6:.0f}; free some"
        )


def _tensors(episode: TensorDict) -> dict[str, Tensor]:
    return dict(episode.flatten_keys(".").items())


def _episode(tensors: dict[str, Tensor]) -> TensorDict:
    length = len(next(iter(tensors.values())))
    return TensorDict(tensors, [length]).unflatten_keys(".")


def _random_states() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "python": random.getstate(),
    }


def _set_random_states(states: dict[str, Any]) -> None:
    name, keys, *rest = states["numpy"]
    torch.set_rng_state(states["torch"])
    torch.cuda.set_rng_state_all(states["cuda"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    random.setstate(states["python"])
