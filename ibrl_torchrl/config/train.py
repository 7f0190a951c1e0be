"""What a run is made of: one dataclass a group, checked once.

The YAML files under ``configs/`` hold the values and say what they are for; these classes hold
their types and limits. :func:`parse` turns a composed configuration into them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ibrl_torchrl.config.algo import AlgoConfig
from ibrl_torchrl.config.checks import _check, _check_choice, _cores, _number_of_workers
from ibrl_torchrl.config.imitation import BCConfig
from ibrl_torchrl.config.replay import ReplayConfig
from ibrl_torchrl.config.task import DemosConfig, TaskConfig

# What to do where a run folder exists.
IF_EXISTS = ("refuse", "go_on")


@dataclass
class FinalEvalConfig:
    final_episodes: int
    seed: int

    def __post_init__(self) -> None:
        _check(self.final_episodes >= 1, "eval.final_episodes", self.final_episodes, "at least 1")


@dataclass
class EvalConfig(FinalEvalConfig):
    every: int
    episodes: int

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("every", "episodes"):
            _check(getattr(self, name) >= 1, f"eval.{name}", getattr(self, name), "at least 1")


@dataclass
class LogConfig:
    every: int
    tensorboard: bool
    wandb: str
    project: str

    def __post_init__(self) -> None:
        _check(self.every >= 1, "log.every", self.every, "at least 1")
        _check_choice("log.wandb", self.wandb, ("disabled", "online", "offline"))


@dataclass
class CollectorConfig:
    workers: int | None = 0
    overlap: bool = True

    def __post_init__(self) -> None:
        # A number from here on, which the run folder keeps: what is learned depends on it.
        self.workers = _number_of_workers("collector.workers", self.workers, cores=_cores() - 1)


@dataclass
class TrainConfig:
    seed: int
    frames: int
    threads: int | None
    device: str
    run_dir: str
    checkpoint_every: int
    task: TaskConfig
    demos: DemosConfig
    bc: BCConfig
    algo: AlgoConfig
    replay: ReplayConfig
    eval: EvalConfig
    log: LogConfig
    collector: CollectorConfig = field(default_factory=CollectorConfig)
    matmul_precision: str = "highest"
    compile: str | None = None
    resume: str | None = None
    if_exists: str = "refuse"
    quiet: bool = False

    def __post_init__(self) -> None:
        _check_choice("if_exists", self.if_exists, IF_EXISTS)
        _check(self.seed >= 0, "seed", self.seed, "0 or more")
        _check(self.frames >= 1, "frames", self.frames, "at least 1")
        _check(self.threads is None or self.threads >= 1, "threads", self.threads, "at least 1")
        _check_choice("matmul_precision", self.matmul_precision, ("highest", "high"))
        _check_choice("compile", self.compile or "default", ("default", "reduce-overhead"))
        _check(self.checkpoint_every >= 1, "checkpoint_every", self.checkpoint_every, "at least 1")
        if self.algo.pretrained:
            _check_same_sizes(self.bc, self.algo)


def _check_same_sizes(bc: BCConfig, algo: AlgoConfig) -> None:
    """Refuse an actor that cannot take over the imitation policy's weights."""
    names = ["hidden"] if algo.encoder is None else ["hidden", "embedding", "embedding_size"]
    for name in names:
        wanted = getattr(algo.actor, name)
        _check(
            getattr(bc.network, name) == wanted,
            f"bc.network.{name}",
            getattr(bc.network, name),
            f"algo.actor.{name}={wanted}, for algo.pretrained makes the BC policy the actor",
        )
    _check(
        bc.encoder == algo.encoder,
        "bc.encoder",
        bc.encoder and bc.encoder.network,
        "algo.encoder, for algo.pretrained makes the BC policy the actor",
    )
