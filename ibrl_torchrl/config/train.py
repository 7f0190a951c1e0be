"""Settings of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ibrl_torchrl.config.algo import UNIFORM, AlgoConfig
from ibrl_torchrl.config.chunk import ChunkConfig
from ibrl_torchrl.config.imitation import MLP, ImitationConfig, require_supported
from ibrl_torchrl.config.interventions import InterventionsConfig
from ibrl_torchrl.config.networks import EncoderConfig
from ibrl_torchrl.config.ray import RayConfig
from ibrl_torchrl.config.replay import ReplayConfig
from ibrl_torchrl.config.setting import (
    MAX_FIRST_SEED,
    MAX_SEED,
    MAX_THREADS,
    MOST_WORKERS,
    num_workers,
    require,
    setting,
)
from ibrl_torchrl.config.task import ReplayedDemosConfig, TaskConfig
from ibrl_torchrl.errors import unknown_name
from ibrl_torchrl.keys import EXPLORATION, EXPLORE, HYBRID, RL, WARMUP

# "demos" is the name of the demonstrations among the inputs in run.json.
RESERVED_NAMES = (RL, EXPLORATION, HYBRID, UNIFORM, WARMUP, EXPLORE, "demos")


def default_imitation() -> dict[str, ImitationConfig]:
    """One imitation policy, named ``"bc"``."""
    return {"bc": ImitationConfig()}


@dataclass(kw_only=True)
class JobConfig:
    """Process and run folder."""

    seed: int = setting(
        1,
        help="Seed; on a CPU it fixes the result (for one number of threads).",
        at_least=0,
        at_most=MAX_SEED,
    )
    run_dir: str = setting(help="Run folder.")
    device: str = setting("cpu", help="Device of PyTorch: cpu, cuda, cuda:1, ...")
    threads: int | None = setting(
        1,
        help="Threads of PyTorch; null: all cores. Last digits depend on it.",
        at_least=1,
        at_most=MAX_THREADS,
    )
    if_exists: str = setting(
        "refuse",
        help="If the run folder exists: refuse, or resume (skip a finished run).",
        choices=("refuse", "resume"),
    )
    quiet: bool = setting(False, help="Write messages to log.txt of the run folder instead.")


@dataclass(kw_only=True)
class FinalEvalConfig:
    """Final evaluation."""

    final_episodes: int = setting(
        50, help="Episodes of each policy at the end.", at_least=1, unit="episodes"
    )
    seed: int = setting(
        100_000,
        help="Seed of the first initial state; the next has seed + 1.",
        at_least=0,
        at_most=MAX_FIRST_SEED,
    )


@dataclass(kw_only=True)
class EvalConfig(FinalEvalConfig):
    """Evaluations during and after training."""

    every: int = setting(3000, help="Interval of evaluations.", at_least=1, unit="frames")
    episodes: int = setting(
        20, help="Episodes of the hybrid and of the RL actor in each.", at_least=1
    )


@dataclass(kw_only=True)
class LogConfig:
    """Tables and trackers."""

    every: int = setting(500, help="Interval of rows in train.csv.", at_least=1, unit="frames")
    keep_episodes: bool = setting(
        False,
        help="Keep the episodes in the replay when the run is finished, for ibrl demos convert.",
    )
    tensorboard: bool = setting(False, help="Write TensorBoard event files.")
    wandb: str = setting(
        "disabled", help="Weights & Biases.", choices=("disabled", "online", "offline")
    )
    project: str = setting("ibrl_torchrl", help="Project at Weights & Biases.")


@dataclass(kw_only=True)
class CollectorConfig:
    """Collection of episodes."""

    backend: str = setting(
        "processes",
        help="Where episodes run: in processes here, or in actors on a Ray cluster.",
        choices=("processes", "ray"),
    )
    workers: int | None = setting(
        1,
        help="Rollout processes or actors; 0: this process; null: a core each but one, 8 at most.",
        at_least=0,
        at_most=MOST_WORKERS,
    )
    overlap: bool = setting(True, help="Collect while the learner updates; false: take turns.")
    episode_timeout: float | None = setting(
        600.0,
        help="Time after which a process that runs one episode is replaced; null: never.",
        at_least=1,
        unit="seconds",
    )
    ray: RayConfig = setting(RayConfig, help="Ray cluster (backend=ray).")

    def __post_init__(self) -> None:
        require(
            self.backend != "ray" or self.workers != 0,
            "collector.workers",
            self.workers,
            "at least 1 with collector.backend=ray",
        )
        # A number from here on, which the run folder keeps: results depend on it.
        self.workers = num_workers(self.workers, reserved=1)


@dataclass(kw_only=True)
class TrainConfig(JobConfig):
    """Demonstrations, imitation, reinforcement and evaluation in one run folder."""

    run_dir: str = setting(
        "runs/${task.name}/${algo.name}-seed${seed}-${now:%Y%m%d-%H%M%S}", help="Run folder."
    )
    total_frames: int = setting(
        12_000,
        help="Budget of environment steps after action repeat, warm-up included.",
        at_least=1,
        unit="frames",
    )
    checkpoint_every: int = setting(
        5000, help="Interval of checkpoints.", at_least=1, unit="frames"
    )
    resume: str | None = setting(None, help="Run folder to resume; it keeps its settings.")
    matmul_precision: str = setting(
        "highest", help="Float32 matrix products; high: TF32 on GPUs.", choices=("highest", "high")
    )
    compile: str | None = setting(
        None,
        help="Mode of torch.compile for the losses; reduce-overhead: CUDA graphs; null: eager.",
        choices=("default", "reduce-overhead"),
    )
    task: TaskConfig = setting(TaskConfig, help="Task.")
    demos: ReplayedDemosConfig = setting(ReplayedDemosConfig, help="Demonstrations.")
    imitation: dict[str, ImitationConfig] = setting(
        default_imitation, help="Imitation policies by name."
    )
    algo: AlgoConfig = setting(AlgoConfig, help="Algorithm.")
    interventions: InterventionsConfig = setting(
        InterventionsConfig, help="Scripted interventions."
    )
    replay: ReplayConfig = setting(ReplayConfig, help="Replay buffer.")
    collector: CollectorConfig = setting(CollectorConfig, help="Collection of episodes.")
    eval: EvalConfig = setting(EvalConfig, help="Evaluation.")
    log: LogConfig = setting(LogConfig, help="Tables and trackers.")

    def __post_init__(self) -> None:
        require_names(self.imitation)
        require_supported(self.imitation, self.demos.episodes)
        for name, policies in self.algo.imitation_policies.items():
            for policy in policies:
                if policy not in self.imitation:
                    raise unknown_name(f"imitation policy in {name}", policy, self.imitation)
        _require_chunks_reach(self.imitation, self.algo)
        _require_replay_has_data(self)
        require(
            self.algo.loss.bc_weight > 0 or not self.replay.imitate_successes,
            "replay.imitate_successes",
            self.replay.imitate_successes,
            "false unless algo.loss.bc_weight is set",
        )
        _require_values_in_support(self)
        for name, policy_config in self.imitation.items():
            _require_self_imitation_fits(name, policy_config, self.algo, self.replay)
            if policy_config.recurrent:
                _require_recurrent_use(name, policy_config, self.algo, self.replay)
                continue
            require(
                not (self.replay.cache_proposals and policy_config.stochastic),
                "replay.cache_proposals",
                True,
                f"false with imitation.{name}.policy={policy_config.policy}, whose actions are "
                "samples",
            )
        if self.algo.actor_init is not None:
            _require_same_network(
                self.imitation[self.algo.actor_init],
                self.algo,
                f"imitation.{self.algo.actor_init}",
            )

    @property
    def imitation_chunks(self) -> dict[str, ChunkConfig]:
        """Action chunks of the imitation policies by name."""
        return {name: policy.chunk for name, policy in self.imitation.items()}

    @property
    def encoders(self) -> list[EncoderConfig | None]:
        """Encoders of all imitation policies, then that of the RL agent; None reads the state."""
        return [*(policy.encoder for policy in self.imitation.values()), self.algo.encoder]


def require_names(imitation: dict[str, ImitationConfig]) -> None:
    """Refuse names of imitation policies that are no identifiers or have another meaning.

    Raises:
        UsageError: names the first such name.
    """
    for name in imitation:
        require(
            name.isidentifier() and name not in RESERVED_NAMES,
            "imitation",
            name,
            f"an identifier other than {', '.join(RESERVED_NAMES)}",
        )


def _require_replay_has_data(config: TrainConfig) -> None:
    """Refuse a replay without demonstrations where something reads them, or nothing fills it.

    Raises:
        UsageError: names the first such setting.
    """
    reason = "while demos.in_replay=false, as with algo=ibrl_residual"
    if config.demos.in_replay:
        return
    require(
        config.replay.offline_fraction is None,
        "replay.offline_fraction",
        config.replay.offline_fraction,
        f"null {reason}",
    )
    require(
        config.algo.loss.bc_weight == 0,
        "algo.loss.bc_weight",
        config.algo.loss.bc_weight,
        f"0 {reason}",
    )


def _require_values_in_support(config: TrainConfig) -> None:
    """Refuse rewards of every step whose return exceeds the support of the critics' histograms.

    Raises:
        UsageError: names the end of the support and the lowest one that serves.
    """
    critic, gamma = config.algo.critic, config.algo.loss.gamma
    rewards = {
        "replay.offline_reward": config.replay.offline_reward,
        "replay.online_reward": config.replay.online_reward,
    }
    steps = 1 / (1 - gamma) if gamma < 1 else config.task.horizon
    for name, reward in rewards.items():
        # Undiscounted returns are not bounded where the environment decides on the horizon.
        if critic.output == "scalar" or reward is None or steps is None:
            continue
        highest, lowest = max(reward * steps, 0.0), min(reward * steps, 0.0)
        reason = f"with {name}={reward:g} and algo.loss.gamma={gamma:g}"
        expected = f"at least {highest:g} {reason}"
        require(critic.v_max >= highest, "algo.critic.v_max", critic.v_max, expected)
        expected = f"at most {lowest:g} {reason}"
        require(critic.v_min <= lowest, "algo.critic.v_min", critic.v_min, expected)


def _require_recurrent_use(
    name: str, config: ImitationConfig, algo: AlgoConfig, replay: ReplayConfig
) -> None:
    """Refuse uses of a recurrent policy that have no episode to read.

    Raises:
        UsageError: names the setting and the remedy.
    """
    policy = f"imitation.{name}.policy={config.policy}"
    proposes = name in algo.proposals.bootstrap.policies
    require(
        replay.cache_proposals or not proposes,
        "replay.cache_proposals",
        False,
        f"true with {policy}, whose actions depend on the episode, not on s' alone",
    )
    samples = algo.proposals.samples
    require(samples == 1, "algo.proposals.samples", samples, f"1 with {policy}, which has a state")
    base = algo.residual and algo.residual.base
    require(base != name, "algo.residual.base", base, f"another policy; {policy} has a state")
    every = config.self_imitation.every
    setting_name = f"imitation.{name}.self_imitation.every"
    require(every is None, setting_name, every, f"null with {policy}, which learns from windows")


def _require_chunks_reach(imitation: dict[str, ImitationConfig], algo: AlgoConfig) -> None:
    """Refuse proposals of fewer actions than the critics value.

    Raises:
        UsageError: names the first such policy.
    """
    for setting_name, policies in algo.imitation_policies.items():
        if setting_name == "algo.warmup.policy":
            continue
        for name in policies:
            size = imitation[name].chunk.size
            require(
                size >= algo.chunk.size,
                f"imitation.{name}.chunk.size",
                size,
                f"at least algo.chunk.size={algo.chunk.size}, as {setting_name} names {name}",
            )


def _require_self_imitation_fits(
    name: str, policy: ImitationConfig, algo: AlgoConfig, replay: ReplayConfig
) -> None:
    """Refuse what relies on an imitation policy that never changes."""
    every = policy.self_imitation.every
    if every is None:
        return
    setting_name = f"imitation.{name}.self_imitation.every"
    require(
        not replay.cache_proposals,
        "replay.cache_proposals",
        True,
        f"false with {setting_name}={every}, which changes the actions that it stores",
    )
    require(
        not (algo.actor_init == name and algo.loss.q_filter),
        setting_name,
        every,
        f"null unless algo.loss.q_filter=false, for the filter compares with the weights of {name}",
    )


def _require_same_network(policy: ImitationConfig, algo: AlgoConfig, name: str) -> None:
    """Refuse an actor that cannot be initialised by the imitation policy's weights."""
    fields = ["hidden"] if algo.encoder is None else ["hidden", "head", "head_size"]
    reason = f"for algo.actor_init={algo.actor_init} initialises the actor (algo=ibrl: null)"
    kinds = (MLP, "cvae") if algo.encoder is None else (MLP,)
    require(
        policy.policy in kinds, f"{name}.policy", policy.policy, f"{' or '.join(kinds)}, {reason}"
    )
    require(
        policy.chunk.size == algo.chunk.size,
        f"{name}.chunk.size",
        policy.chunk.size,
        f"algo.chunk.size={algo.chunk.size}, {reason}",
    )
    for field in fields:
        value: Any = getattr(policy.network, field)
        expected = getattr(algo.actor, field)
        require(
            value == expected,
            f"{name}.network.{field}",
            value,
            f"algo.actor.{field}={expected}, {reason}",
        )
    require(
        policy.encoder == algo.encoder,
        f"{name}.encoder",
        policy.encoder and policy.encoder.network,
        f"algo.encoder, {reason}",
    )
