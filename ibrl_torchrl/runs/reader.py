"""What run folders hold."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs.tables import flatten_settings, read_rows


@dataclass(frozen=True)
class EvalPoint:
    """A policy's evaluation at some time of a run; lengths and frames are after action repeat."""

    frames: int
    seconds: float
    success: float
    length: float | None
    il_share: float


@dataclass(frozen=True)
class FinalEpisode:
    """An episode of the final evaluation."""

    seed: int
    success: bool
    length: int
    il_frames: int


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        path: of the folder.
        config: as in ``config.yaml``.
        origin: as in ``run.json``: command, versions, commit.
        curves: evaluations by policy (``"hybrid"``, ``"rl"``, ``"bc"``) in the order of frames.
        final: episodes of the final evaluation by policy; empty where a run did not finish.
    """

    path: Path
    config: Mapping[str, Any]
    origin: Mapping[str, Any]
    curves: Mapping[str, tuple[EvalPoint, ...]]
    final: Mapping[str, tuple[FinalEpisode, ...]]

    @property
    def method(self) -> str:
        return self.config["algo"].get("name") or _method_of(self.config["algo"])

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def task(self) -> str:
        return f"{self.config['task']['suite']}/{self.config['task']['name']}"

    @property
    def frames(self) -> int:
        """Of the budget."""
        return self.config["frames"]

    @property
    def inputs(self) -> Mapping[str, str]:
        """Fingerprints of the demonstrations and the BC policy, where the run has noted them."""
        return self.origin.get("inputs", {})

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration by dotted names, such as ``"algo.lr"``."""
        return dict(flatten_settings(self.config))

    def success(self, policy: str) -> float:
        """Success rate of a policy in the final evaluation."""
        episodes = self.final[policy]
        return sum(episode.success for episode in episodes) / len(episodes)

    def success_length(self, policy: str) -> float | None:
        """Mean length of a policy's solved final episodes; None without one."""
        lengths = [episode.length for episode in self.final[policy] if episode.success]
        return sum(lengths) / len(lengths) if lengths else None


def find_runs(folders: Iterable[Path]) -> list[Run]:
    """The runs in and under some folders, each once, in the order of their paths.

    Raises:
        UsageError: a folder is missing or holds no run, or a run cannot be read.
    """
    found: dict[Path, Run] = {}
    for folder in folders:
        configs = sorted(folder.rglob("config.yaml"))
        if not folder.is_dir() or not configs:
            raise UsageError(f"{folder}: holds no run (a folder with config.yaml and eval.csv)")
        for path in (config.parent for config in configs):
            if path.resolve() not in found and _is_training(path):
                found[path.resolve()] = read_run(path)
    return list(found.values())


def read_run(path: Path) -> Run:
    """Read a run folder.

    Raises:
        UsageError: it is not one, or a file in it is damaged.
    """
    try:
        config = yaml.safe_load((path / "config.yaml").read_text())
        origin_file = path / "run.json"
        origin = json.loads(origin_file.read_text()) if origin_file.is_file() else {}
        curves, final = _curves(path / "eval.csv"), _final(path / "evaluation.csv")
        run = Run(path, config, origin, curves, final)
        _ = run.method, run.seed, run.task, run.frames, config["eval"]["every"]
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UsageError(f"{path}: not a readable run folder ({reason})") from error
    return run


def _is_training(path: Path) -> bool:
    """Whether a folder is of ``ibrl train``; those of ``ibrl bc`` have no evaluations."""
    return (path / "eval.csv").is_file()


def _curves(file: Path) -> dict[str, tuple[EvalPoint, ...]]:
    curves = defaultdict(list)
    for row in read_rows(file):
        point = EvalPoint(
            frames=int(row["frames"]),
            seconds=float(row["wall_s"]),
            success=float(row["success"]),
            length=_number(row["success_length"]),
            il_share=float(row["il_share"]),
        )
        curves[row["policy"]].append(point)
    return {policy: tuple(points) for policy, points in curves.items()}


def _final(file: Path) -> dict[str, tuple[FinalEpisode, ...]]:
    episodes = defaultdict(list)
    for row in read_rows(file) if file.is_file() else ():
        episode = FinalEpisode(
            seed=int(row["seed"]),
            success=bool(int(row["success"])),
            length=int(row["length"]),
            il_frames=int(row["il_frames"]),
        )
        episodes[row["policy"]].append(episode)
    return {policy: tuple(played) for policy, played in episodes.items()}


def _number(text: str) -> float | None:
    return None if text == "nan" else float(text)


def _method_of(algo: Mapping[str, Any]) -> str:
    """The name that runs from before methods had names would have now."""
    without = algo["acting"] == "rl", algo["bootstrap"] == "rl"
    names = {
        (True, True): "td3",
        (True, False): "bootstrap_proposal",
        (False, True): "actor_proposal",
        (False, False): "ibrl_soft" if algo["soft"] else "ibrl",
    }
    return names[without]
