"""Settings of the reinforcement learning algorithm."""

from __future__ import annotations

from dataclasses import dataclass

from ibrl_torchrl.config.networks import CriticConfig, EncoderConfig, NetworkConfig
from ibrl_torchrl.config.setting import require, setting
from ibrl_torchrl.keys import RL

SELECT = ("greedy", "soft", "epsilon")
UNIFORM = "uniform"


@dataclass(kw_only=True)
class LossConfig:
    """Loss: TD3 with proposals, optionally regularised by behaviour cloning."""

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
    bc_weight: float = setting(
        0.0,
        help="Weight alpha of a behaviour cloning term in the actor loss (RFT); 0: none.",
        at_least=0,
    )
    q_filter: bool = setting(
        False,
        help="Scale that term by the share of states where actor_init's actions score higher.",
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


@dataclass(kw_only=True)
class ProposalsConfig:
    """Action proposals: which policies propose and how the critics choose."""

    select: str = setting(
        "greedy",
        help="Default of both choices: argmax Q, softmax of beta Q, or epsilon-greedy.",
        choices=SELECT,
    )
    acting: ChoiceConfig = setting(ChoiceConfig, help="Choice of the executed action.")
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
    )


@dataclass(kw_only=True)
class WarmupConfig:
    """Data collection before learning starts."""

    policy: str = setting("bc", help="Imitation policy that acts, or uniform (random actions).")
    episodes: int = setting(40, help="Episodes; paper: 40 or 50.", at_least=0)


@dataclass(kw_only=True)
class AlgoConfig:
    """Algorithm; ``algo=NAME`` chooses a method of configs/algo."""

    name: str = setting("ibrl", help="Name of the method in run folders and reports.")
    encoder: EncoderConfig | None = setting(
        None, help="Image encoder, see configs/encoder; null: learn from the state."
    )
    actor: NetworkConfig = setting(NetworkConfig, help="RL actor.")
    critic: CriticConfig = setting(CriticConfig, help="Critic ensemble.")
    actor_init: str | None = setting(
        None, help="Imitation policy whose weights initialise the actor (RFT); null: random."
    )
    exploration_noise: float = setting(
        0.1,
        help="Standard deviation of Gaussian noise on RL actions while collecting.",
        at_least=0,
        unit="action units",
    )
    loss: LossConfig = setting(LossConfig, help="Loss.")
    proposals: ProposalsConfig = setting(ProposalsConfig, help="Action proposals.")
    update: UpdateConfig = setting(UpdateConfig, help="Optimisation.")
    warmup: WarmupConfig = setting(WarmupConfig, help="Warm-up.")

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
        for use in ("acting", "bootstrap"):
            names = getattr(self.proposals, use).policies
            require(
                names[:1] == [RL] and len({*names}) == len(names),
                f"algo.proposals.{use}.policies",
                names,
                f"distinct names, {RL} first",
            )

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
        }
