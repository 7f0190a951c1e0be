"""Settings of a Ray cluster and of what runs there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ibrl_torchrl.config.setting import require, setting

_ADDRESS = re.compile(r"auto|local|[\w.-]+:\d{1,5}")


@dataclass(kw_only=True)
class RayConfig:
    """Ray cluster, and what each worker gets of it."""

    address: str = setting(
        "auto", help="Cluster: HOST:PORT of its head, auto (RAY_ADDRESS, this machine's) or local."
    )
    cpus: int = setting(1, help="CPUs of each.", at_least=1, at_most=4096)
    gpus: float = setting(
        0.0, help="GPUs of each; a fraction shares one.", at_least=0, at_most=1024
    )

    def __post_init__(self) -> None:
        require(
            _ADDRESS.fullmatch(self.address) is not None,
            "ray.address",
            self.address,
            "auto, local or HOST:PORT",
        )
        require(
            self.gpus <= 1 or self.gpus == int(self.gpus),
            "ray.gpus",
            self.gpus,
            "a whole number or less than 1",
        )


@dataclass(kw_only=True)
class RayRunsConfig(RayConfig):
    """Ray cluster, and what each run gets of it (launcher=ray)."""

    cpus: int = setting(
        2, help="CPUs of each run: the learner's and its workers'.", at_least=1, at_most=4096
    )
    retries: int = setting(
        3, help="Times that a run resumes after its node was lost.", at_least=0, at_most=10_000
    )
