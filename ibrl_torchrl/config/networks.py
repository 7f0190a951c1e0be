"""Settings of networks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ibrl_torchrl.config.setting import MAX_WIDTH, require, setting

OUTPUTS = ("scalar", "hl_gauss")
_MAX_WEIGHTS = 2**28  # of a layer: 1 GB, four times as much with its gradient and Adam's moments


@dataclass(kw_only=True)
class EncoderConfig:
    """Image encoder; chosen by ``encoder@algo.encoder=NAME``, null for states."""

    network: str = setting(
        help="Network of each camera.", choices=("vit", "resnet18", "resnet96", "drq")
    )
    settings: dict[str, Any] = setting({}, help="Arguments of that network.")
    cameras: list[str] = setting(
        "${task.cameras}", help="Cameras whose images are encoded.", at_least=1
    )
    fusion: str = setting(
        "concatenate",
        help="Fusion of several cameras' features.",
        choices=("concatenate", "add", "multiply"),
    )
    shift: int = setting(
        4, help="Largest random shift of training images.", at_least=0, at_most=1024, unit="pixels"
    )
    proprio: bool = setting(False, help="Read proprioception beside the images.")
    proprio_noise: float = setting(
        0.0,
        help="Standard deviation of noise on normalised proprioception during training.",
        at_least=0,
    )
    precision: str = setting(
        "float32", help="Precision of the encoder's products.", choices=("float32", "bfloat16")
    )
    channels_last: bool = setting(False, help="Memory layout of convolutions; pays on GPUs.")


def _require_moderate(hidden: list[int]) -> None:
    """Refuse layers that no memory holds, before anything is made.

    Raises:
        UsageError: two neighbouring layers have more weights between them than ``_MAX_WEIGHTS``.
    """
    largest = max((a * b for a, b in pairwise(hidden)), default=0)
    require(
        largest <= _MAX_WEIGHTS, "hidden", hidden, f"layers of at most {_MAX_WEIGHTS} weights each"
    )


@dataclass(kw_only=True)
class NetworkConfig:
    """Policy network."""

    hidden: list[int] = setting(
        [256, 256, 256], help="Widths of the hidden layers.", at_least=1, at_most=MAX_WIDTH
    )
    dropout: float = setting(
        0.5, help="Dropout probability of hidden units; paper: 0.5.", at_least=0, below=1
    )
    head: str = setting(
        "linear",
        help="Map of image features to a vector.",
        choices=("flatten", "linear", "spatial"),
    )
    head_size: int = setting(128, help="Size of that vector.", at_least=1, at_most=MAX_WIDTH)

    def __post_init__(self) -> None:
        _require_moderate(self.hidden)


@dataclass(kw_only=True)
class CriticConfig:
    """Critic ensemble."""

    hidden: list[int] = setting(
        [256, 256, 256], help="Widths of the hidden layers.", at_least=1, at_most=MAX_WIDTH
    )
    num_critics: int = setting(
        3, help="Ensemble size E; paper, states: 5.", at_least=1, at_most=1000
    )
    layer_norm: bool = setting(True, help="Layer norm in critics of states.")
    output: str = setting(
        "scalar",
        help="Value trained by squared error, or histogram of values by cross-entropy (HL-Gauss).",
        choices=OUTPUTS,
    )
    bins: int = setting(101, help="Bins of hl_gauss.", at_least=2, at_most=10_000)
    v_min: float = setting(-0.1, help="Lowest value of hl_gauss's support.")
    v_max: float = setting(1.1, help="Highest value of it; a success returns at most 1.")
    sigma_ratio: float = setting(
        0.75, help="Width of hl_gauss's targets: standard deviation in bin widths.", above=0
    )
    head: str = setting(
        "spatial",
        help="Map of image features to a vector: the paper's Fig. 2 or DrQ's.",
        choices=("spatial", "drq"),
    )
    head_size: int = setting(
        1024, help="Size of that vector; paper: 1024.", at_least=1, at_most=MAX_WIDTH
    )
    channel_weights: str = setting(
        "softmax",
        help="Channel weights of the spatial head: softmax (paper) or free (original code).",
        choices=("softmax", "free"),
    )

    def __post_init__(self) -> None:
        _require_moderate(self.hidden)
        require(
            self.v_min < self.v_max,
            "algo.critic.v_min",
            self.v_min,
            f"below algo.critic.v_max={self.v_max}",
        )
