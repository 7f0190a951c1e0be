"""Run folders as plain values, read without PyTorch."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ibrl_torchrl.errors import UsageError, brief
from ibrl_torchrl.keys import HYBRID, RL
from ibrl_torchrl.runs import fields
from ibrl_torchrl.runs.manifest import require_no_links
from ibrl_torchrl.runs.names import CONFIG, EVAL, EVALUATION, PROVENANCE
from ibrl_torchrl.runs.plain import read_json, read_yaml
from ibrl_torchrl.runs.tables import flatten_settings, frames_column, read_rows, share_column


@dataclass(frozen=True)
class EvalPoint:
    """Evaluation of one policy during training.

    Attributes:
        frames: training frames of the policy, after action repeat.
        seconds: wall time since the start of the run.
        success: success rate in [0, 1].
        low: lower bound of its 95 % Wilson interval.
        high: upper bound.
        length: mean length of the successful episodes in frames; None without one.
        shares: share of each proposal among the executed actions, by its name.
    """

    frames: int
    seconds: float
    success: float
    low: float
    high: float
    length: float | None
    shares: Mapping[str, float]


@dataclass(frozen=True)
class FinalEpisode:
    """Episode of the final evaluation.

    Attributes:
        seed: seed of the initial state.
        success: whether the task was solved.
        length: in frames, after action repeat.
        proposal_frames: number of frames in which each proposal was executed, by its name.
    """

    seed: int
    success: bool
    length: int
    proposal_frames: Mapping[str, int]


@dataclass(frozen=True)
class Run:
    """Settings, provenance and evaluations of a training run.

    Attributes:
        path: run folder.
        config: content of ``config.yaml``.
        provenance: content of ``run.json``: command, versions, commit, hashes of the inputs.
        curves: evaluations during training in the order of frames, by policy: ``"hybrid"``,
            ``"rl"`` and each imitation policy by its name.
        final: episodes of the final evaluation by policy; empty for an unfinished run.
    """

    path: Path
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    curves: Mapping[str, tuple[EvalPoint, ...]]
    final: Mapping[str, tuple[FinalEpisode, ...]]

    @property
    def method(self) -> str:
        """Name of the method, ``algo.name``."""
        return str(self.config["algo"]["name"])

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return int(self.config["seed"])

    @property
    def task(self) -> str:
        """Suite and task, such as ``"metaworld/box-close"``."""
        return f"{self.config['task']['suite']}/{self.config['task']['name']}"

    @property
    def total_frames(self) -> int:
        """Budget of environment steps after action repeat."""
        return int(self.config["total_frames"])

    @property
    def eval_every(self) -> int:
        """Interval of evaluations in frames."""
        return int(self.config["eval"]["every"])

    @property
    def imitation(self) -> tuple[str, ...]:
        """Names of the imitation policies."""
        return tuple(self.config["imitation"].keys())

    @property
    def proposals(self) -> tuple[str, ...]:
        """Names of all proposals, the RL actor's first."""
        return RL, *self.imitation

    @property
    def acting_proposals(self) -> tuple[str, ...]:
        """Names of the proposals among which the hybrid chooses."""
        return tuple(self.config["algo"]["proposals"]["acting"]["policies"])

    @property
    def inputs(self) -> Mapping[str, str]:
        """Hashes of the demonstrations (``"demos"``) and of each imitation policy by its name."""
        inputs: Mapping[str, str] = self.provenance.get("inputs", {})
        return inputs

    @property
    def settings(self) -> dict[str, Any]:
        """Configuration by dotted names, such as ``"algo.update.lr"``."""
        return dict(flatten_settings(self.config))

    def success(self, policy: str) -> float:
        """Success rate of a policy in the final evaluation."""
        episodes = self.final[policy]
        return sum(episode.success for episode in episodes) / len(episodes)

    def success_length(self, policy: str) -> float | None:
        """Mean length of a policy's successful final episodes in frames; None without one."""
        lengths = [episode.length for episode in self.final[policy] if episode.success]
        return sum(lengths) / len(lengths) if lengths else None

    def proposal_share(self, policy: str, proposal: str) -> float:
        """Share of a proposal among a policy's actions in the final evaluation."""
        episodes = self.final[policy]
        frames = sum(episode.proposal_frames[proposal] for episode in episodes)
        return frames / sum(episode.length for episode in episodes)


def find_runs(folders: Iterable[Path]) -> list[Run]:
    """Training runs in some folders and their subfolders, without duplicates, sorted by path.

    Raises:
        UsageError: a folder does not exist or contains no run, or a run cannot be read.
    """
    runs: dict[Path, Run] = {}
    for folder in folders:
        paths = [config.parent for config in sorted(folder.rglob(CONFIG))]
        if not paths:
            raise UsageError(f"{folder}: contains no run (a folder with {CONFIG} and {EVAL})")
        for path in paths:
            if path.resolve() not in runs and _is_training(path):
                runs[path.resolve()] = read_run(path)
    return list(runs.values())


def read_run(path: Path) -> Run:
    """Read a run folder; the run may be unfinished.

    Raises:
        UsageError: it is not a run folder, a file in it is damaged or a link, or it was written by
            version 0.1.
    """
    require_no_links(path)
    try:
        config = read_yaml(path / CONFIG)
        if "frames" in config and "total_frames" not in config:
            raise UsageError(
                f"{path}: was written by version 0.1, whose settings and tables have other names; "
                "run it again"
            )
        file = path / PROVENANCE
        provenance = read_json(file) if file.is_file() else {}
        settings = Run(path, config, provenance, {}, {})
        _require_settings(settings)
        curves = _read_curves(path / EVAL, settings.proposals)
        final = _read_final(path / EVALUATION, settings.proposals)
        if final and HYBRID not in curves:
            raise ValueError(f"{EVAL} of a finished run has no row of {HYBRID}")
        return Run(path, config, provenance, curves, final)
    except (
        *(ArithmeticError, AttributeError, LookupError, OSError, RecursionError),
        *(TypeError, ValueError, csv.Error),
    ) as error:
        raise UsageError(f"{path}: is not a readable run folder ({brief(error)})") from error


def _is_training(path: Path) -> bool:
    """Whether ``ibrl train`` wrote a folder; ``ibrl bc`` writes no evaluations."""
    return (path / EVAL).is_file()


def _require_settings(run: Run) -> None:
    """Access every setting that a property needs.

    Raises:
        KeyError, TypeError, ValueError: a setting is missing or of another type.
    """
    fields.name(run.config["algo"]["name"])
    fields.name(run.task)
    fields.count(run.config["seed"])
    fields.count(run.config["total_frames"], at_least=1)
    fields.count(run.config["eval"]["every"], at_least=1)
    for policy in (*fields.names(run.config["imitation"]), *run.acting_proposals):
        fields.name(policy)
    for part in ("inputs", "versions"):
        for value in fields.names(run.provenance.get(part, {})).values():
            fields.name(value)
    for part in ("commit", "command"):
        if (text := run.provenance.get(part)) is not None and not isinstance(text, str):
            raise ValueError(f"{part} of {PROVENANCE} is no text")
    unknown = {*run.acting_proposals} - {*run.proposals}
    if unknown:
        raise ValueError(f"algo.proposals.acting.policies has {', '.join(sorted(unknown))}")


def _read_curves(file: Path, proposals: Sequence[str]) -> dict[str, tuple[EvalPoint, ...]]:
    curves: dict[str, list[EvalPoint]] = defaultdict(list)
    for row in read_rows(file):
        point = EvalPoint(
            frames=fields.count(row["frames"]),
            seconds=fields.finite(row["wall_s"]),
            success=fields.fraction(row["success"]),
            low=fields.fraction(row["success_low"]),
            high=fields.fraction(row["success_high"]),
            length=fields.optional(fields.finite, row["success_length"], empty="nan"),
            shares={name: fields.fraction(row[share_column("acting", name)]) for name in proposals},
        )
        curves[fields.name(row["policy"])].append(point)
    return {policy: tuple(points) for policy, points in curves.items()}


def _read_final(file: Path, proposals: Sequence[str]) -> dict[str, tuple[FinalEpisode, ...]]:
    final: dict[str, list[FinalEpisode]] = defaultdict(list)
    for row in read_rows(file) if file.is_file() else ():
        length = fields.count(row["length"], at_least=1)
        episode = FinalEpisode(
            seed=fields.count(row["seed"]),
            success=fields.flag(row["success"]),
            length=length,
            proposal_frames={name: fields.count(row[frames_column(name)]) for name in proposals},
        )
        if sum(episode.proposal_frames.values()) > length:
            raise ValueError(f"{file.name} counts more actions than the {length} of an episode")
        final[fields.name(row["policy"])].append(episode)
    return {policy: tuple(episodes) for policy, episodes in final.items()}
