"""What a run is made of: one dataclass a group, checked once.

The YAML files under ``configs/`` hold the values and say what they are for; these classes hold
their types and limits. :func:`parse` turns a composed configuration into them.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field, is_dataclass
from typing import Any, TypeVar, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from ibrl_torchrl.errors import UsageError

ConfigT = TypeVar("ConfigT")
# What to do where a run folder exists.
IF_EXISTS = ("refuse", "go_on")
# What a run folder may hold that policies can be read from.
CHECKPOINTS = ("checkpoint.pt", "checkpoint-previous.pt", "best.pt", "not-finite.pt")


def _check(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise UsageError(f"{name}={value} must be {expected}")


def _check_choice(name: str, value: str, choices: Collection[str]) -> None:
    _check(value in choices, name, value, f"one of {', '.join(choices)}")


def _number_of_workers(name: str, given: int | None, cores: int) -> int:
    """As given; or one for each core that they may have, at most 8 and at least 1."""
    _check(given is None or given >= 0, name, given, "null or 0 or more")
    return max(1, min(8, cores)) if given is None else given


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass
class TaskConfig:
    suite: str
    name: str
    action_repeat: int
    horizon: int
    cameras: list[str] = field(default_factory=list)
    image_size: int = 96
    render_quality: str = "fast"
    frame_stack: int = 1
    state_stack: int = 1
    state_parts: list[str] | None = None
    min_std: float = 0.1
    start_states: int = 0

    def __post_init__(self) -> None:
        for name in ("frame_stack", "state_stack"):
            _check(getattr(self, name) >= 1, f"task.{name}", getattr(self, name), "at least 1")
        _check(self.state_parts != [], "task.state_parts", self.state_parts, "one part or more")
        _check(self.min_std > 0, "task.min_std", self.min_std, "above 0")
        _check(self.start_states >= 0, "task.start_states", self.start_states, "0 or more")

    @property
    def label(self) -> str:
        """What checkpoints and tables call it, such as ``"metaworld/box-close"``."""
        return f"{self.suite}/{self.name}"


@dataclass
class DemosConfig:
    path: str | None
    episodes: int
    noise: float
    seed: int
    filter_key: str | None = None

    def __post_init__(self) -> None:
        _check(self.episodes >= 1, "demos.episodes", self.episodes, "at least 1")
        _check(self.noise >= 0, "demos.noise", self.noise, "0 or more")


@dataclass
class EncoderConfig:
    network: str
    settings: dict[str, Any]
    cameras: list[str]
    fusion: str
    shift: int
    proprio: bool
    proprio_noise: float
    precision: str
    channels_last: bool

    def __post_init__(self) -> None:
        _check_choice("encoder.network", self.network, ("vit", "resnet18", "resnet96", "drq"))
        _check_choice("encoder.precision", self.precision, ("float32", "bfloat16"))
        _check_choice("encoder.fusion", self.fusion, ("concatenate", "add", "multiply"))
        _check(bool(self.cameras), "encoder.cameras", self.cameras, "one camera or more")
        for name in ("shift", "proprio_noise"):
            _check(getattr(self, name) >= 0, f"encoder.{name}", getattr(self, name), "0 or more")


@dataclass
class NetworkConfig:
    hidden: list[int]
    dropout: float
    embedding: str = "compressed"
    embedding_size: int = 128

    def __post_init__(self) -> None:
        _check(min(self.hidden, default=0) >= 1, "hidden", self.hidden, "a list of widths")
        _check(0 <= self.dropout < 1, "dropout", self.dropout, "in [0, 1)")
        _check_choice("embedding", self.embedding, ("flat", "compressed", "spatial"))
        _check(self.embedding_size >= 1, "embedding_size", self.embedding_size, "at least 1")


@dataclass
class CriticConfig:
    hidden: list[int]
    number: int
    layer_norm: bool
    embedding: str = "spatial"
    embedding_size: int = 1024
    weights: str = "softmax"

    def __post_init__(self) -> None:
        _check(min(self.hidden, default=0) >= 1, "hidden", self.hidden, "a list of widths")
        _check(self.number >= 1, "critic.number", self.number, "at least 1")
        _check_choice("critic.embedding", self.embedding, ("spatial", "compressed"))
        _check(self.embedding_size >= 1, "embedding_size", self.embedding_size, "at least 1")
        _check_choice("critic.weights", self.weights, ("softmax", "free"))


@dataclass
class BCConfig:
    path: str | None
    network: NetworkConfig
    steps: int
    batch_size: int
    lr: float
    encoder: EncoderConfig | None = None
    grad_clip: float | None = None
    evaluate_every: int | None = None
    eval_episodes: int = 20
    eval_seed: int = 200_000
    keep_best: int = 1

    def __post_init__(self) -> None:
        for name in ("grad_clip", "evaluate_every"):
            value = getattr(self, name)
            _check(value is None or value > 0, f"bc.{name}", value, "null or positive")
        for name in ("eval_episodes", "keep_best"):
            _check(getattr(self, name) >= 1, f"bc.{name}", getattr(self, name), "at least 1")
        _check(self.steps >= 1, "bc.steps", self.steps, "at least 1")
        _check(self.batch_size >= 1, "bc.batch_size", self.batch_size, "at least 1")
        _check(self.lr > 0, "bc.lr", self.lr, "positive")


@dataclass
class AlgoConfig:
    soft: bool
    acting: str
    bootstrap: str
    beta: float
    epsilon: float
    num_min: int
    score_acting_with: str
    actor: NetworkConfig
    critic: CriticConfig
    lr: float
    gamma: float
    tau: float
    policy_noise: float
    noise_clip: float
    noisy_actor_loss: bool
    exploration_noise: float
    warmup_episodes: int
    update_every: int
    critic_updates: int
    encoder: EncoderConfig | None = None
    name: str = "ibrl"
    warmup: str = "bc"
    pretrained: bool = False
    bc_weight: float = 0.0
    bc_filter: bool = False

    def __post_init__(self) -> None:
        _check_choice("algo.warmup", self.warmup, ("bc", "uniform"))
        _check(self.bc_weight >= 0, "algo.bc_weight", self.bc_weight, "0 or more")
        _check(
            not self.bc_filter or self.bc_weight > 0,
            "algo.bc_filter",
            self.bc_filter,
            "false unless algo.bc_weight is set",
        )
        for name in ("acting", "bootstrap"):
            _check_choice(f"algo.{name}", getattr(self, name), ("rl", "greedy", "soft", "epsilon"))
        _check_choice("algo.score_acting_with", self.score_acting_with, ("online", "target"))
        _check(
            1 <= self.num_min <= self.critic.number,
            "algo.num_min",
            self.num_min,
            f"between 1 and algo.critic.number={self.critic.number}",
        )
        _check(self.beta >= 0, "algo.beta", self.beta, "0 or more")
        _check(0 <= self.epsilon <= 1, "algo.epsilon", self.epsilon, "in [0, 1]")
        _check(self.lr > 0, "algo.lr", self.lr, "positive")
        _check(0 < self.gamma <= 1, "algo.gamma", self.gamma, "in (0, 1]")
        _check(0 < self.tau <= 0.5, "algo.tau", self.tau, "in (0, 0.5]")
        for name in ("policy_noise", "noise_clip", "exploration_noise", "warmup_episodes"):
            _check(getattr(self, name) >= 0, f"algo.{name}", getattr(self, name), "0 or more")
        for name in ("update_every", "critic_updates"):
            _check(getattr(self, name) >= 1, f"algo.{name}", getattr(self, name), "at least 1")


@dataclass
class ReplayConfig:
    capacity: int
    batch_size: int
    storage: str
    n_steps: int
    time_limit_terminates: bool
    prioritized: bool
    alpha: float
    beta: float
    demo_share: float | None
    keep_successes: bool
    record_proposals: bool = False
    demo_reward: float | None = None
    online_reward: float | None = None

    def __post_init__(self) -> None:
        _check_choice("replay.storage", self.storage, ("memory", "memmap"))
        for name in ("capacity", "batch_size", "n_steps"):
            _check(getattr(self, name) >= 1, f"replay.{name}", getattr(self, name), "at least 1")
        for name in ("alpha", "beta"):
            _check(getattr(self, name) >= 0, f"replay.{name}", getattr(self, name), "0 or more")
        share = self.demo_share
        _check(share is None or 0 < share < 1, "replay.demo_share", share, "null or in (0, 1)")
        _check(
            not self.keep_successes or share is not None,
            "replay.keep_successes",
            self.keep_successes,
            "false unless replay.demo_share is set",
        )
        _check(
            self.demo_reward == self.online_reward or share is not None,
            "replay.demo_reward",
            self.demo_reward,
            "replay.online_reward unless replay.demo_share is set",
        )


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


def parse(schema: type[ConfigT], config: DictConfig | dict[str, Any]) -> ConfigT:
    """Check a composed configuration and make it typed objects.

    Experiments are written for whole runs; a command with a smaller schema takes its part of one.

    Raises:
        UsageError: a value is missing, of the wrong type or out of range, or a key is unknown.
    """
    try:
        config = _part_of(OmegaConf.create(config), schema, TrainConfig)
        merged = OmegaConf.merge(OmegaConf.structured(schema), config)
        return OmegaConf.to_object(merged)
    except MissingMandatoryValue as error:
        raise UsageError(f"{error.full_key}=... is needed") from error
    except OmegaConfBaseException as error:
        reason = str(error.msg or error).splitlines()[0]
        raise UsageError(f"{error.full_key or 'configuration'}: {reason}") from error


def _part_of(config: DictConfig, schema: type, whole: type) -> DictConfig:
    """Leave out what ``whole`` has and ``schema`` lacks; what neither has stays, to be refused."""
    own, all_of_it = get_type_hints(schema), get_type_hints(whole)
    part = OmegaConf.masked_copy(
        config, [key for key in config if key in own or key not in all_of_it]
    )
    for key in part:
        kinds = own.get(key), all_of_it.get(key)
        if all(map(is_dataclass, kinds)) and isinstance(part._get_node(key), DictConfig):
            part[key] = _part_of(part[key], *kinds)
    return part
