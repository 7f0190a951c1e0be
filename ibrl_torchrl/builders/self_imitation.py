"""Imitation policies that go on learning during RL, from settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tensordict import TensorDict

from ibrl_torchrl.builders.networks import PolicyNetwork, policy_keys
from ibrl_torchrl.builders.policies import imitation_loss
from ibrl_torchrl.builders.replay import build_imitation_buffer
from ibrl_torchrl.config.imitation import ImitationConfig
from ibrl_torchrl.config.replay import ReplayConfig
from ibrl_torchrl.imitation.self_imitation import SelfImitation


def build_self_imitation(
    configs: Mapping[str, ImitationConfig],
    networks: Mapping[str, PolicyNetwork],
    replay: ReplayConfig,
    demos: Sequence[TensorDict],
    scratch_dir: Path,
    *,
    frame_stack: int = 1,
) -> dict[str, SelfImitation]:
    """Training of those imitation policies that go on learning, by name.

    Args:
        configs: settings of all imitation policies by name.
        networks: networks of their frozen policies, on their device.
        replay: storage and capacity of each policy's transitions.
        demos: demonstrations, TensorDicts [T].
        scratch_dir: folder of memory maps.
        frame_stack: images in an observation.
    """
    return {
        name: SelfImitation(
            networks[name],
            partial(imitation_loss, config=config),
            build_imitation_buffer(
                replay,
                policy_keys(config.encoder),
                config.batch_size,
                demos,
                scratch_dir / name,
                chunk_size=config.chunk.size,
                frame_stack=frame_stack,
            ),
            every=config.self_imitation.every,
            steps=config.self_imitation.steps,
            lr=config.self_imitation.lr or config.lr,
            lr_name=f"imitation.{name}.self_imitation.lr",
            grad_clip=config.grad_clip,
        )
        for name, config in configs.items()
        if config.self_imitation.every is not None
    }
