"""Settings of imitation policies."""

from __future__ import annotations

from dataclasses import dataclass

from ibrl_torchrl.config.networks import EncoderConfig, NetworkConfig
from ibrl_torchrl.config.setting import setting


def _network() -> NetworkConfig:
    return NetworkConfig(dropout=0.0, head="flatten")


@dataclass(kw_only=True)
class ImitationConfig:
    """Imitation policy: network, training by behaviour cloning, choice of a checkpoint."""

    path: str | None = setting(
        None, help="File of a trained policy; null: train one on the demonstrations."
    )
    encoder: EncoderConfig | None = setting(
        None, help="Image encoder, see configs/encoder; null: a policy of the state."
    )
    network: NetworkConfig = setting(_network, help="Policy network.")
    steps: int = setting(1000, help="Optimiser steps (Adam).", at_least=1)
    batch_size: int = setting(256, help="Transitions in a batch.", at_least=1)
    lr: float = setting(1e-3, help="Learning rate.", above=0)
    grad_clip: float | None = setting(
        None, help="Bound of the gradient's norm; null: none.", above=0
    )
    eval_every: int | None = setting(
        None,
        help="Steps between evaluations that select weights; null: take the last.",
        at_least=1,
        unit="steps",
    )
    eval_episodes: int = setting(20, help="Episodes of each of these evaluations.", at_least=1)
    eval_seed: int = setting(200_000, help="Seed of their first initial state.")
    top_k: int = setting(
        1, help="One of so many best weights is drawn at random; paper: 3.", at_least=1
    )
