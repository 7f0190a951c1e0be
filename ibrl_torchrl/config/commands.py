"""Settings of the commands other than ``ibrl train``."""

from __future__ import annotations

from dataclasses import dataclass

from ibrl_torchrl.config.checks import _check, _check_choice, _cores, _number_of_workers
from ibrl_torchrl.config.imitation import BCConfig
from ibrl_torchrl.config.task import DemosConfig, TaskConfig
from ibrl_torchrl.config.train import IF_EXISTS, FinalEvalConfig

# What a run folder may hold that policies can be read from.
CHECKPOINTS = ("checkpoint.pt", "checkpoint-previous.pt", "best.pt", "not-finite.pt")


@dataclass
class BCRunConfig:
    seed: int
    threads: int | None
    device: str
    run_dir: str
    task: TaskConfig
    demos: DemosConfig
    bc: BCConfig
    eval: FinalEvalConfig
    if_exists: str = "refuse"
    quiet: bool = False

    def __post_init__(self) -> None:
        _check_choice("if_exists", self.if_exists, IF_EXISTS)


@dataclass
class DemosRunConfig:
    task: TaskConfig
    demos: DemosConfig
    out: str
    video: bool | str | None = None


@dataclass
class DemosInfoConfig:
    file: str


@dataclass
class DemosCheckConfig:
    file: str
    episodes: int | None
    filter_key: str | None

    def __post_init__(self) -> None:
        _check(
            self.episodes is None or self.episodes >= 1,
            "episodes",
            self.episodes,
            "null or at least 1",
        )


@dataclass
class DemosRenderConfig(DemosCheckConfig):
    out: str
    cameras: list[str]
    image_size: int
    render_quality: str
    tolerance: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.image_size >= 1, "image_size", self.image_size, "at least 1")
        _check(self.tolerance >= 0, "tolerance", self.tolerance, "0 or more")


@dataclass
class DemosDownloadConfig:
    dataset: str
    out: str


@dataclass
class EvalRunConfig:
    run: str
    out: str | None
    episodes: int
    seed: int
    device: str
    threads: int | None
    checkpoint: str = "checkpoint.pt"
    workers: int | None = 0
    video: bool | str | None = None
    video_episodes: int = 3

    def __post_init__(self) -> None:
        self.workers = _number_of_workers("workers", self.workers, cores=_cores())
        _check_choice("checkpoint", self.checkpoint, CHECKPOINTS)
        for name in ("episodes", "video_episodes"):
            _check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")


@dataclass
class ReportConfig:
    runs: list[str]
    out: str
    title: str

    def __post_init__(self) -> None:
        _check(bool(self.runs), "runs", self.runs, "one folder or more")


@dataclass
class DiagnoseConfig:
    run: str
    episodes: int
    starts: int
    seed: int
    device: str
    threads: int | None

    def __post_init__(self) -> None:
        for name in ("episodes", "starts"):
            _check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")


@dataclass
class BenchConfig:
    dir: str
    algos: list[str]
    tasks: list[str]
    experiments: list[str]
    seeds: list[int]
    settings: list[str]
    launcher: str
    jobs: int

    def __post_init__(self) -> None:
        for name in ("algos", "seeds"):
            _check(bool(getattr(self, name)), name, getattr(self, name), "a list of one or more")
        _check(bool(self.tasks or self.experiments), "tasks", self.tasks, "a list of one or more")
        _check(self.jobs >= 1, "jobs", self.jobs, "at least 1")
