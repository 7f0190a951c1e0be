"""Settings of imitation policies."""

from __future__ import annotations

from dataclasses import dataclass

from ibrl_torchrl.config.chunk import ChunkConfig, require_replan
from ibrl_torchrl.config.networks import EncoderConfig, NetworkConfig
from ibrl_torchrl.config.setting import (
    MAX_BATCH,
    MAX_FIRST_SEED,
    MAX_WIDTH,
    require,
    setting,
)

MLP = "mlp"
GMM_RNN = "gmm_rnn"
POLICIES = (MLP, "gmm", "cvae", "flow", "diffusion", GMM_RNN, "act")


def _network() -> NetworkConfig:
    return NetworkConfig(dropout=0.0, head="flatten")


@dataclass(kw_only=True)
class GMMConfig:
    """Mixture of Gaussians, policy gmm."""

    components: int = setting(5, help="Gaussians; robomimic: 5.", at_least=1, at_most=1000)
    min_std: float = setting(
        0.03, help="Lowest standard deviation.", above=0, at_most=1, unit="action units"
    )


@dataclass(kw_only=True)
class CVAEConfig:
    """Conditional variational autoencoder, policy cvae."""

    latent_size: int = setting(
        8, help="Size of the latent vector z.", at_least=1, at_most=MAX_WIDTH
    )
    kl_weight: float = setting(0.01, help="Weight of the KL term in the loss.", at_least=0)


@dataclass(kw_only=True)
class FlowConfig:
    """Flow matching, policy flow."""

    steps: int = setting(
        10, help="Integration steps (Euler) of an action.", at_least=1, at_most=1000
    )


@dataclass(kw_only=True)
class DiffusionConfig:
    """Diffusion, policy diffusion."""

    steps: int = setting(20, help="Denoising steps of an action.", at_least=10, at_most=1000)


@dataclass(kw_only=True)
class GMMRNNConfig:
    """LSTM with a mixture of Gaussians, policy gmm_rnn."""

    components: int = setting(5, help="Gaussians; robomimic: 5.", at_least=1)
    min_std: float = setting(
        0.03, help="Lowest standard deviation.", above=0, at_most=1, unit="action units"
    )
    width: int = setting(128, help="Units of each LSTM layer; robomimic: 400.", at_least=1)
    layers: int = setting(1, help="LSTM layers; robomimic: 2.", at_least=1)
    horizon: int = setting(
        10, help="Steps of a training window, and between returns to a zero state.", at_least=1
    )


@dataclass(kw_only=True)
class ACTConfig:
    """Action chunking transformer, policy act."""

    width: int = setting(64, help="Size of the tokens; original: 512.", at_least=2)
    layers: int = setting(1, help="Layers of encoder and decoder; original: 4 and 7.", at_least=1)
    heads: int = setting(4, help="Attention heads; original: 8.", at_least=1)
    latent_size: int = setting(8, help="Size of the latent vector z; original: 32.", at_least=1)
    kl_weight: float = setting(10.0, help="Weight of the KL term; original: 10.", at_least=0)


@dataclass(kw_only=True)
class SelfImitationConfig:
    """Behaviour cloning that goes on during RL, on demonstrations and successful episodes."""

    every: int | None = setting(
        None,
        help="Interval of rounds of updates; null: none, the policy stays as it was trained.",
        at_least=1,
        unit="frames",
    )
    steps: int = setting(100, help="Optimiser steps (Adam) of a round.", at_least=1)
    lr: float | None = setting(
        None, help="Learning rate; null: that of the training before.", above=0
    )


@dataclass(kw_only=True)
class ImitationConfig:
    """Imitation policy: network, training by behaviour cloning, choice of a checkpoint."""

    policy: str = setting(
        MLP,
        help="Kind of policy: one action of a state, or a distribution of actions.",
        choices=POLICIES,
    )

    path: str | None = setting(
        None, help="File of a trained policy; null: train one on the demonstrations."
    )
    encoder: EncoderConfig | None = setting(
        None, help="Image encoder, see configs/encoder; null: a policy of the state."
    )
    network: NetworkConfig = setting(_network, help="Policy network.")
    chunk: ChunkConfig = setting(ChunkConfig, help="Action chunk that the policy predicts.")
    gmm: GMMConfig = setting(GMMConfig, help="Mixture of Gaussians.")
    cvae: CVAEConfig = setting(CVAEConfig, help="Conditional variational autoencoder.")
    flow: FlowConfig = setting(FlowConfig, help="Flow matching.")
    diffusion: DiffusionConfig = setting(DiffusionConfig, help="Diffusion.")
    gmm_rnn: GMMRNNConfig = setting(GMMRNNConfig, help="LSTM with a mixture of Gaussians.")
    act: ACTConfig = setting(ACTConfig, help="Action chunking transformer.")
    steps: int = setting(1000, help="Optimiser steps (Adam).", at_least=1)
    batch_size: int = setting(256, help="Transitions in a batch.", at_least=1, at_most=MAX_BATCH)
    lr: float = setting(1e-3, help="Learning rate.", above=0)
    grad_clip: float | None = setting(
        None, help="Bound of the gradient's norm; null: none.", above=0
    )
    ema: float | None = setting(
        None,
        help="Decay of a moving average of the weights, taken in their place, such as 0.999; "
        "null: none.",
        above=0,
        below=1,
    )
    validation_fraction: float = setting(
        0.0,
        help="Fraction of the demonstrations that is held out, and whose loss selects the "
        "weights; 0: none, take the last.",
        at_least=0,
        below=1,
    )
    validate_every: int = setting(100, help="Steps between validations.", at_least=1, unit="steps")
    patience: int | None = setting(
        None,
        help="Validations in a row without improvement that end the training; null: never.",
        at_least=1,
    )
    eval_every: int | None = setting(
        None,
        help="Steps between evaluations that select weights; null: take the last.",
        at_least=1,
        unit="steps",
    )
    eval_episodes: int = setting(20, help="Episodes of each of these evaluations.", at_least=1)
    eval_seed: int = setting(
        200_000, help="Seed of their first initial state.", at_least=0, at_most=MAX_FIRST_SEED
    )
    top_k: int = setting(
        1, help="One of so many best weights is drawn at random; paper: 3.", at_least=1
    )
    self_imitation: SelfImitationConfig = setting(
        SelfImitationConfig, help="Training that goes on during RL."
    )

    @property
    def stochastic(self) -> bool:
        """Whether the policy draws its actions."""
        return self.policy != MLP

    @property
    def recurrent(self) -> bool:
        """Whether the action depends on the episode, not on the observation alone."""
        return self.policy == GMM_RNN


@dataclass(kw_only=True)
class DaggerConfig:
    """Dataset aggregation (DAgger, arXiv 1011.0686)."""

    rounds: int = setting(5, help="Rounds, with that of the demonstrations, number 0.", at_least=1)
    episodes: int = setting(3, help="Episodes of each round after that.", at_least=1)
    beta: float = setting(
        0.5,
        help="Base p of the probability p^i with which a step of round i executes the expert's "
        "action; 0: in round 0 alone.",
        at_least=0,
        at_most=1,
    )


def require_supported(imitation: dict[str, ImitationConfig], num_demos: int) -> None:
    """Refuse combinations of an imitation policy's settings that exclude each other.

    Args:
        imitation: settings by name.
        num_demos: number of demonstrations.

    Raises:
        UsageError: names the first such setting and the remedy.
    """
    for name, config in imitation.items():
        require_replan(config.chunk, f"imitation.{name}.chunk")
        _require_heads(config.act, f"imitation.{name}.act")
        if config.recurrent:
            policy = f"with imitation.{name}.policy={config.policy}"
            size = config.chunk.size
            require(size == 1, f"imitation.{name}.chunk.size", size, f"1 {policy}")
            # Windows of images would hold each of them so many times.
            encoder = config.encoder and config.encoder.network
            require(encoder is None, f"imitation.{name}.encoder", encoder, f"null {policy}")
        _require_validation(config, f"imitation.{name}", num_demos)


def _require_validation(config: ImitationConfig, name: str, num_demos: int) -> None:
    """Refuse a split that leaves a side empty, and selection by two measures."""
    fraction = config.validation_fraction
    if fraction == 0:
        require(
            config.patience is None,
            f"{name}.patience",
            config.patience,
            f"null unless {name}.validation_fraction is above 0",
        )
        return
    require(
        # The number is rounded to the nearest, see imitation/validation.py.
        config.path is not None or 0.5 <= num_demos * fraction < num_demos - 0.5,
        f"{name}.validation_fraction",
        fraction,
        f"0, or hold out at least one of demos.episodes={num_demos} and leave one to train on",
    )
    require(
        config.eval_every is None,
        f"{name}.eval_every",
        config.eval_every,
        f"null, for with {name}.validation_fraction={fraction:g} the validation loss selects the "
        "weights",
    )


def _require_heads(config: ACTConfig, name: str) -> None:
    """Refuse tokens that the attention heads cannot share."""
    require(
        config.width % config.heads == 0 and config.width % 2 == 0,
        f"{name}.width",
        config.width,
        f"even and a multiple of {name}.heads={config.heads}",
    )
