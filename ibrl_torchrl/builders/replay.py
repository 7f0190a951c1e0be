"""From configuration to a replay, and what it will cost."""

from __future__ import annotations

from pathlib import Path

import torch
from tensordict import TensorDict
from torchrl.data import TensorDictReplayBuffer
from torchrl.envs import Compose, EnvBase

from ibrl_torchrl.config.replay import ReplayConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.data.replay import (
    CacheProposals,
    ConstantReward,
    DeduplicateImages,
    EpisodeToTransitions,
    MixedReplay,
    ReplayWithDemos,
    episode_buffer,
)
from ibrl_torchrl.data.replay.buffer import Replay
from ibrl_torchrl.data.replay.footprint import (
    available_disk,
    available_memory,
    image_replay_bytes,
    require_memory,
)
from ibrl_torchrl.data.replay.images import SHORTEST_TRUNCATED
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.modules import FrozenPolicy


def replay_bytes(replay: ReplayConfig, env: EnvBase, keys: list[str], frame_stack: int = 1) -> int:
    """Bytes of the full replay buffer for observations with these keys."""
    spec = env.observation_spec
    images = [key for key in keys if spec[key].dtype == torch.uint8]
    frames = {key: (spec[key].shape[0] // frame_stack, *spec[key].shape[1:]) for key in images}
    floats = 2 * sum(spec[key].shape.numel() for key in keys if key not in images)
    floats += env.action_spec.shape.numel() * (3 if replay.record_proposals else 1)
    numbers = 4 * floats + 23  # reward, flags, steps_to_next_obs and TorchRL's index
    buffers = 2 if replay.keep_successes else 1
    return buffers * image_replay_bytes(replay.capacity, frames, numbers, frame_stack)


def build_replay(
    replay: ReplayConfig,
    gamma: float,
    demos: list[TensorDict],
    scratch_dir: Path,
    *,
    keys: list[str],
    frame_stack: int = 1,
    recorded: FrozenPolicy | None = None,
    bring_demos: bool = False,
) -> Replay:
    """A replay buffer that holds the demonstrations.

    Args:
        replay: what to build.
        gamma: discount of the n-step rewards.
        demos: episodes it starts with.
        scratch_dir: folder of the memory map.
        keys: observation keys that updates read; images among them are stored once a frame.
        frame_stack: images in each observation.
        recorded: a policy whose actions are kept beside the observations.
        bring_demos: batches bring demonstrations along.
    """
    recording = [] if recorded is None else [CacheProposals(recorded)]
    kept = keys if recorded is None else [*keys, *recorded.out_keys]
    images = [key for key in keys if demos[0][key].dtype == torch.uint8]

    def buffer(name: str, reward: float | None) -> TensorDictReplayBuffer:
        storing = DeduplicateImages(
            images,
            replay.capacity,
            frame_stack=frame_stack,
            storage=replay.storage,
            scratch_dir=scratch_dir / name,
        )
        to_transitions = EpisodeToTransitions(
            kept,
            n_steps=replay.n_steps,
            gamma=gamma,
            time_limit_terminates=replay.time_limit_terminates,
        )
        # Written from the last to the first, sampled from the first to the last.
        transforms = [*([storing] if images else []), to_transitions, *recording]
        if reward is not None:
            transforms.append(ConstantReward(reward))
        return episode_buffer(
            replay.capacity,
            replay.batch_size,
            Compose(*transforms),
            storage=replay.storage,
            scratch_dir=scratch_dir / name,
            prioritized=replay.prioritized,
            alpha=replay.alpha,
            beta=replay.beta,
        )

    def demonstrations(name: str) -> TensorDictReplayBuffer:
        held = buffer(name, replay.demo_reward)
        for episode in demos:
            held.extend(episode)
        return held

    built = demonstrations("demos")
    if replay.demo_share is not None:
        built = MixedReplay(
            built,
            buffer("online", replay.online_reward),
            demo_share=replay.demo_share,
            batch_size=replay.batch_size,
            keep_successes=replay.keep_successes,
        )
    return ReplayWithDemos(built, demonstrations("beside")) if bring_demos else built


def require_replay_fits(
    config: ReplayConfig, env: EnvBase, keys: list[str], frame_stack: int, run_dir: str
) -> None:
    """Say what the replay will cost, before anything of it is allocated.

    Raises:
        UsageError: it does not fit, or episodes are too short for it.
    """
    if env.horizon < SHORTEST_TRUNCATED and any(key.endswith("_image") for key in keys):
        raise UsageError(
            f"task.horizon={env.horizon} must be at least {SHORTEST_TRUNCATED} to learn from images"
        )
    needed = replay_bytes(config, env, keys, frame_stack)
    on_disk = config.storage == "memmap"
    available = available_disk(run_dir) if on_disk else available_memory()
    echo(f"replay: {needed / 1e9:.2f} GB when full, {'on disk' if on_disk else 'in memory'}")
    remedy = "lower replay.capacity" if on_disk else "lower replay.capacity or use storage=memmap"
    require_memory(needed, available, remedy)
