"""Settings of the reinforcement learning algorithm."""

from __future__ import annotations

from dataclasses import dataclass

from ibrl_torchrl.config.chunk import ChunkConfig, require_replan
from ibrl_torchrl.config.networks import CriticConfig, EncoderConfig, NetworkConfig
from ibrl_torchrl.config.setting import require, setting
from ibrl_torchrl.keys import EXPLORATION, RL

SELECT = ("greedy", "soft", "epsilon")
REDUCTIONS = ("min", "mean")
GATES = ("none", "agreement", "confidence")
TORCHRL_LOSSES = ("sac", "tqc", "redq_sac")
ALGORITHMS = ("td3", *TORCHRL_LOSSES)
UNIFORM = "uniform"


@dataclass(kw_only=True)
class LossConfig:
    """Loss: IBRL's TD3, optionally regularised by behaviour cloning, or one of TorchRL's losses."""

    algorithm: str = setting(
        "td3",
        help="The paper's TD3, or a loss of TorchRL, from states.",
        choices=ALGORITHMS,
    )
    gamma: float = setting(0.99, help="Discount factor of a frame.", above=0, at_most=1)
    policy_noise: float = setting(
        0.1,
        help="Standard deviation of target policy smoothing noise.",
        at_least=0,
        unit="action units",
    )
    noise_clip: float = setting(0.3, help="Bound of that noise.", at_least=0, unit="action units")
    noisy_actor_loss: bool = setting(
        True, help="Add that noise in the actor loss too (original code); paper: false."
    )
    actor_reduction: str = setting(
        "min",
        help="Reduction over all critics in the actor loss of td3; REDQ and RLPD: mean.",
        choices=REDUCTIONS,
    )
    bc_weight: float = setting(
        0.0,
        help="Weight alpha of a behaviour cloning term in the actor loss (RFT); 0: none.",
        at_least=0,
    )
    q_filter: bool = setting(
        False,
        help="Scale that term by the share of states where actor_init's actions score higher.",
    )
    q_filter_after: int = setting(
        0,
        help="Frames with that term at full weight, before critics scale it; it also has it while "
        "algo.fallback.policy acts.",
        at_least=0,
    )
    q_filter_episodes: int | None = setting(
        None,
        help="The Q-filter takes effect by the root of the share of failures among so many recent "
        "training episodes without exploration: success is kept; null: in full.",
        at_least=1,
    )
    alpha: float = setting(
        0.01, help="Initial entropy temperature of sac, tqc and redq_sac.", above=0
    )
    alpha_fixed: bool = setting(False, help="Keep the temperature; false: target entropy -A.")
    choose_by: str = setting(
        "soft_value",
        help="What the target compares for the actor: Q - alpha log pi, or value: Q.",
        choices=("soft_value", "value"),
    )
    quantiles: int = setting(25, help="Quantiles of each critic of tqc.", at_least=1, at_most=1000)
    quantiles_dropped: int = setting(
        2, help="Highest quantiles that tqc drops, for each critic.", at_least=0
    )


@dataclass(kw_only=True)
class ChoiceConfig:
    """Proposals that take part in one choice of the critics."""

    policies: list[str] = setting(
        [RL, "bc"],
        help="Names of the proposing policies: rl first, then imitation policies.",
        at_least=1,
    )
    select: str = setting(
        "${algo.proposals.select}", help="How the critics choose.", choices=SELECT
    )
    reduction: str = setting(
        "${algo.proposals.reduction}",
        help="Value of a candidate over the drawn critics.",
        choices=REDUCTIONS,
    )
    gate: str = setting(
        "none",
        help="Cautious choice: untrusted actions win by agreement of critics or confidence bound.",
        choices=GATES,
    )


@dataclass(kw_only=True)
class ActingChoiceConfig(ChoiceConfig):
    """Proposals that take part in the choice of the executed action."""

    trusted: list[str] | None = setting(
        None,
        help="Names of the policies that act unless others pass the gate; null: the imitation "
        "policies.",
    )


@dataclass(kw_only=True)
class ProposalsConfig:
    """Action proposals: which policies propose and how the critics choose."""

    select: str = setting(
        "greedy",
        help="Default of both choices: argmax Q, softmax of beta Q, or epsilon-greedy.",
        choices=SELECT,
    )
    acting: ActingChoiceConfig = setting(ActingChoiceConfig, help="Choice of the executed action.")
    bootstrap: ChoiceConfig = setting(ChoiceConfig, help="Choice in the TD target.")
    acting_critic: str = setting(
        "online",
        help="Critics that choose while acting: online (paper) or target (original code).",
        choices=("online", "target"),
    )
    beta: float = setting(10.0, help="Inverse temperature of the soft choice.", at_least=0)
    epsilon: float = setting(
        0.1, help="Share of random choices of epsilon-greedy.", at_least=0, at_most=1
    )
    num_min: int = setting(
        2, help="Critics drawn for a choice, whose minimum counts; paper: 2.", at_least=1
    )
    reduction: str = setting(
        "min",
        help="Default of both choices: minimum (paper) or mean over the drawn critics.",
        choices=REDUCTIONS,
    )
    gate_level: float = setting(
        1.0,
        help="Share of critics that must agree, or standard deviations of the confidence bound.",
        at_least=0,
    )
    samples: int = setting(
        1,
        help="Candidates of each imitation policy: samples; of an mlp noisy copies (EXPO: 8).",
        at_least=1,
        at_most=1000,
    )
    sample_noise: float = setting(
        0.1, help="Standard deviation of those copies' noise.", at_least=0, unit="action units"
    )


@dataclass(kw_only=True)
class ResidualConfig:
    """RL actor that edits an imitation policy's action instead of proposing one of its own."""

    base: str = setting("bc", help="Imitation policy whose actions are edited.")
    scale: float = setting(0.2, help="Bound of the edit.", above=0, unit="action units")
    own_action: bool = setting(
        False, help="Also propose an action of its own; algo.actor_init initialises that actor."
    )


@dataclass(kw_only=True)
class UpdateConfig:
    """Optimisation."""

    lr: float = setting(3e-4, help="Learning rate of Adam; paper: 1e-4.", above=0)
    tau: float = setting(
        0.01, help="Step of the target networks' moving average.", above=0, at_most=0.5
    )
    frames_per_round: int = setting(
        2, help="Environment frames for each round of updates.", at_least=1, unit="frames"
    )
    critic_updates: int = setting(
        2,
        help="Critic updates G in a round, before one of the actor; paper, states: 5.",
        at_least=1,
        at_most=10_000,
    )
    actor_after: int = setting(
        0,
        help="Frames before the actor's first update; until then the critics learn alone.",
        at_least=0,
        unit="frames",
    )


@dataclass(kw_only=True)
class WarmupConfig:
    """Data collection before learning starts."""

    policy: str = setting("bc", help="Imitation policy that acts, or uniform (random actions).")
    episodes: int = setting(40, help="Episodes; paper: 40 or 50.", at_least=0)
    updates: bool = setting(
        False, help="Learn during the warm-up, too: its frames earn rounds of updates."
    )


@dataclass(kw_only=True)
class FallbackConfig:
    """Imitation policy that acts in place of the hybrid, wherever the hybrid is deployed."""

    policy: str | None = setting(
        None,
        help="Imitation policy that acts in the hybrid's place, except in training episodes, until "
        "these succeed as often; null: none.",
    )
    episodes: int = setting(
        20, help="Recent training episodes, after the warm-up, whose success counts.", at_least=1
    )
    margin: float = setting(
        0.0,
        help="How far below the imitation policy's success rate that policy acts again.",
        at_least=0,
        at_most=1,
    )


@dataclass(kw_only=True)
class AlgoConfig:
    """Algorithm; ``algo=NAME`` chooses a method of configs/algo."""

    name: str = setting("ibrl", help="Name of the method in run folders and reports.")
    encoder: EncoderConfig | None = setting(
        None, help="Image encoder, see configs/encoder; null: learn from the state."
    )
    chunk: ChunkConfig = setting(
        ChunkConfig, help="Action chunk that critics value and the RL actor proposes."
    )
    actor: NetworkConfig = setting(NetworkConfig, help="RL actor.")
    critic: CriticConfig = setting(CriticConfig, help="Critic ensemble.")
    actor_init: str | None = setting(
        None, help="Imitation policy whose weights initialise the actor (RFT); null: random."
    )
    actor_init_std: float = setting(
        0.1,
        help="Standard deviation, before tanh, of a stochastic actor that actor_init initialises.",
        above=0.01,
    )
    residual: ResidualConfig | None = setting(
        None, help="RL actor that edits an imitation policy's action; null: acts by itself."
    )
    exploration_noise: float = setting(
        0.1,
        help="Standard deviation of Gaussian noise on RL actions while collecting.",
        at_least=0,
        unit="action units",
    )
    exploration_correlation: float = setting(
        0.0,
        help="Correlation of that noise with the frame before (Ornstein-Uhlenbeck); 0: white.",
        at_least=0,
        below=1,
    )
    exploration_value_power: float = setting(
        0.0,
        help="Exponent p of that noise's factor (1 - V)^p, V the value of the action before: less "
        "noise where success is likely; 0: none.",
        at_least=0,
    )
    exploration_share: float = setting(
        1.0,
        help="Share of training episodes that explore; the others act as in evaluations, and tell "
        "a fallback how often the hybrid succeeds.",
        at_least=0,
        at_most=1,
    )
    exploration_actor: bool = setting(
        False,
        help="Second RL actor, which starts at random and is trained by the critics alone: it "
        "proposes in training episodes that explore, once no fallback acts.",
    )
    exploration_bootstrap: bool = setting(
        False,
        help="Whether it proposes in the TD target, too, while the last algo.fallback.episodes "
        "episodes in which it acted succeed as often as the fallback.",
    )
    episode_limit: float | None = setting(
        None,
        help="Training episodes are truncated after this many times the longest demonstration; "
        "null: the environment alone ends them.",
        at_least=1,
    )
    loss: LossConfig = setting(LossConfig, help="Loss.")
    proposals: ProposalsConfig = setting(ProposalsConfig, help="Action proposals.")
    update: UpdateConfig = setting(UpdateConfig, help="Optimisation.")
    warmup: WarmupConfig = setting(WarmupConfig, help="Warm-up.")
    fallback: FallbackConfig = setting(FallbackConfig, help="Fallback to an imitation policy.")

    def __post_init__(self) -> None:
        require(
            self.proposals.num_min <= self.critic.num_critics,
            "algo.proposals.num_min",
            self.proposals.num_min,
            f"at most algo.critic.num_critics={self.critic.num_critics}",
        )
        require(
            not self.loss.q_filter or (self.loss.bc_weight > 0 and self.actor_init is not None),
            "algo.loss.q_filter",
            self.loss.q_filter,
            "false unless algo.loss.bc_weight and algo.actor_init are set",
        )
        require(
            not self.exploration_bootstrap
            or (self.exploration_actor and self.fallback.policy is not None),
            "algo.exploration_bootstrap",
            self.exploration_bootstrap,
            "false unless algo.exploration_actor and algo.fallback.policy are set",
        )
        require_replan(self.chunk, "algo.chunk")
        _require_supported(self)
        for use in ("acting", "bootstrap"):
            names = getattr(self.proposals, use).policies
            require(
                names[:1] == [RL] and len({*names}) == len(names),
                f"algo.proposals.{use}.policies",
                names,
                f"distinct names, {RL} first",
            )

    @property
    def acting_proposals(self) -> list[str]:
        """Names of the proposals while collecting, in the order of ``proposal``'s indices."""
        return [*self.proposals.acting.policies, *([EXPLORATION] if self.exploration_actor else [])]

    @property
    def target_proposals(self) -> list[str]:
        """Names of the proposals in the TD target, in the order of ``next_proposal``'s indices."""
        further = [EXPLORATION] if self.exploration_bootstrap else []
        return [*self.proposals.bootstrap.policies, *further]

    @property
    def imitation_policies(self) -> dict[str, list[str]]:
        """Names of imitation policies by the setting that uses them."""
        proposals = self.proposals
        warmup = [] if self.warmup.policy == UNIFORM else [self.warmup.policy]
        return {
            "algo.proposals.acting.policies": proposals.acting.policies[1:],
            "algo.proposals.bootstrap.policies": proposals.bootstrap.policies[1:],
            "algo.warmup.policy": warmup,
            "algo.actor_init": [] if self.actor_init is None else [self.actor_init],
            "algo.fallback.policy": [] if self.fallback.policy is None else [self.fallback.policy],
            "algo.residual.base": [] if self.residual is None else [self.residual.base],
        }


def _require_supported(algo: AlgoConfig) -> None:
    """Refuse combinations of settings that no loss or network supports.

    Raises:
        UsageError: names the first such setting and the remedy.
    """
    proposals, loss = algo.proposals, algo.loss
    if loss.algorithm in TORCHRL_LOSSES:  # the choices refuse a mistyped name
        reason = f"with algo.loss.algorithm={loss.algorithm}"
        require(algo.encoder is None, "algo.encoder", "an encoder", f"null {reason}")
        require(algo.residual is None, "algo.residual", "a base", f"null {reason}")
        require(loss.bc_weight == 0, "algo.loss.bc_weight", loss.bc_weight, f"0 {reason}")
        second = algo.exploration_actor
        require(not second, "algo.exploration_actor", second, f"false {reason}")
        delay = algo.update.actor_after
        require(delay == 0, "algo.update.actor_after", delay, f"0 {reason}")
        output = algo.critic.output
        require(output == "scalar", "algo.critic.output", output, f"scalar {reason}")
        require(
            proposals.bootstrap.gate == "none" or loss.choose_by == "value",
            "algo.proposals.bootstrap.gate",
            proposals.bootstrap.gate,
            f"none {reason}, or set algo.loss.choose_by=value",
        )
        reduced = {
            "algo.proposals.bootstrap.reduction": proposals.bootstrap.reduction,
            "algo.loss.actor_reduction": loss.actor_reduction,
        }
        if loss.algorithm == "tqc":
            reduced["algo.proposals.acting.reduction"] = proposals.acting.reduction
        for name, reduction in reduced.items():
            require(reduction != "mean", name, reduction, f"min {reason}, which has its own")
    require(
        loss.algorithm != "tqc" or loss.quantiles_dropped < loss.quantiles,
        "algo.loss.quantiles_dropped",
        loss.quantiles_dropped,
        f"below algo.loss.quantiles={loss.quantiles}",
    )
    require(
        loss.algorithm != "redq_sac" or proposals.num_min < algo.critic.num_critics,
        "algo.proposals.num_min",
        proposals.num_min,
        f"below algo.critic.num_critics={algo.critic.num_critics} with redq_sac",
    )
    correlation = algo.exploration_correlation
    require(
        correlation == 0 or algo.chunk.size == 1,
        "algo.exploration_correlation",
        correlation,
        f"0 with algo.chunk.size={algo.chunk.size}",
    )
    power = algo.exploration_value_power
    require(
        power == 0 or algo.chunk.size == 1,
        "algo.exploration_value_power",
        power,
        f"0 with algo.chunk.size={algo.chunk.size}",
    )
    if algo.residual is not None:
        require(algo.encoder is None, "algo.residual", "a base", "null with algo.encoder")
        require(not loss.q_filter, "algo.loss.q_filter", loss.q_filter, "false with a residual")
        require(
            algo.actor_init is None or algo.residual.own_action,
            "algo.actor_init",
            algo.actor_init,
            "null with a residual, or set algo.residual.own_action",
        )
        for use in ("acting", "bootstrap"):
            names = getattr(proposals, use).policies
            require(
                algo.residual.base in names,
                f"algo.proposals.{use}.policies",
                names,
                f"names that include algo.residual.base={algo.residual.base}",
            )
    gates = {proposals.acting.gate, proposals.bootstrap.gate}
    require(
        "agreement" not in gates or 0 < proposals.gate_level <= 1,
        "algo.proposals.gate_level",
        proposals.gate_level,
        "above 0 and at most 1 with the gate agreement",
    )
    trusted = proposals.acting.trusted
    require(
        trusted is None or (trusted != [] and {*trusted} <= {*proposals.acting.policies}),
        "algo.proposals.acting.trusted",
        trusted,
        f"some of algo.proposals.acting.policies={proposals.acting.policies}, or null",
    )
    for use, others in (("acting", trusted), ("bootstrap", None)):
        choice = getattr(proposals, use)
        require(
            choice.gate == "none" or len(choice.policies) > 1 or others is not None,
            f"algo.proposals.{use}.gate",
            choice.gate,
            f"none, as algo.proposals.{use}.policies names no imitation policy",
        )
