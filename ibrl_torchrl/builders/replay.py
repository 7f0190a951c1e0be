"""Replay from settings, and an estimate of its size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Literal

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.utils import NestedKey
from torchrl.envs import Compose, EnvBase, Transform

from ibrl_torchrl.builders.networks import policy_keys
from ibrl_torchrl.config.algo import AlgoConfig
from ibrl_torchrl.config.imitation import ImitationConfig
from ibrl_torchrl.config.replay import ReplayConfig
from ibrl_torchrl.config.setting import require
from ibrl_torchrl.console import echo
from ibrl_torchrl.data.replay import (
    CacheProposals,
    ChunkActions,
    ConstantReward,
    DeduplicateImages,
    EpisodeReplayBuffer,
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
from ibrl_torchrl.episodes import imitation_episode, observation_keys
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import ACTION, DEMO, EXPERT_ACTION, NEXT
from ibrl_torchrl.modules import FrozenPolicy

Storage = Literal["memory", "memmap"]


def stored_keys(
    config: ReplayConfig, algo: AlgoConfig, imitation: Iterable[ImitationConfig]
) -> list[str]:
    """Observation keys that transitions hold: what the learner reads of a batch."""
    policies = [] if config.cache_proposals else [policy.encoder for policy in imitation]
    return policy_keys(*policies, algo.encoder)


def stored_actions(
    config: ReplayConfig, algo: AlgoConfig, imitation: Iterable[ImitationConfig]
) -> int:
    """Number of actions that a transition holds: a chunk, and those that are cached of s and s'."""
    cached = sum(policy.chunk.size for policy in imitation) if config.cache_proposals else 0
    return algo.chunk.size + 2 * cached


def replay_bytes(
    config: ReplayConfig,
    env: EnvBase,
    keys: Sequence[str],
    *,
    frame_stack: int = 1,
    num_actions: int = 1,
    interventions: bool = False,
) -> int:
    """Bytes of a full replay buffer.

    Args:
        config: settings of the replay.
        env: environment, for the shapes.
        keys: observation keys that it stores.
        frame_stack: images in an observation.
        num_actions: number of actions in a transition, see :func:`stored_actions`.
        interventions: somebody else may act in online episodes. Default False.
    """
    spec = env.observation_spec
    images = [key for key in keys if spec[key].dtype == torch.uint8]
    frames = {key: (spec[key].shape[0] // frame_stack, *spec[key].shape[1:]) for key in images}
    floats = 2 * sum(spec[key].shape.numel() for key in keys if key not in images)
    floats += env.action_spec.shape.numel() * num_actions
    other = 4 * floats + 23  # reward, flags, steps_to_next_obs and TorchRL's index
    joining = interventions and config.interventions_join_demos
    needed = image_replay_bytes(config.capacity, frames, other, frame_stack)
    if config.keep_successes or joining:
        needed += image_replay_bytes(config.capacity, frames, other, frame_stack, parts=joining)
    if config.imitate_successes:
        needed += image_replay_bytes(config.capacity, frames, other, frame_stack)
    return needed


def build_replay(
    config: ReplayConfig,
    batch_keys: Sequence[NestedKey],
    gamma: float,
    demos: Sequence[TensorDict],
    scratch_dir: Path,
    *,
    demos_in_replay: bool = True,
    chunk_size: int = 1,
    frame_stack: int = 1,
    policies: Iterable[FrozenPolicy] = (),
    interventions: bool = False,
    device: torch.device | None = None,
) -> Replay:
    """Replay that gives what a loss reads of a batch, and at first holds the demonstrations.

    Args:
        config: settings.
        batch_keys: ``in_keys`` of the loss: observations, proposals that are cached, and under
            ``"demo"`` what it reads of demonstrations.
        gamma: discount factor of n-step rewards.
        demos: initial episodes, TensorDicts [T].
        scratch_dir: folder of memory maps.
        demos_in_replay: hold the demonstrations; false: at first it is empty.
        chunk_size: actions in the chunks that the loss reads.
        frame_stack: images in an observation.
        policies: imitation policies, whose actions are cached where the loss reads them.
        interventions: somebody else may act in online episodes, so that parts of them may join the
            demonstrations. Default False.
        device: device of ``storage="device"``; None (default): the CPU.
    """
    read = [key[1] for key in batch_keys if isinstance(key, tuple) and key[0] == NEXT]
    observations = [key for key in read if key in observation_keys(demos[0])]
    cached = [policy for policy in policies if policy.out_keys[0] in read]
    with_demos = (DEMO, ACTION) in batch_keys
    where = device if config.storage == "device" else None

    num_demos = min(config.capacity, sum(map(len, demos)))
    joining = interventions and config.interventions_join_demos

    def buffer(
        name: str, reward: float | None, capacity: int, *, parts: bool = False
    ) -> EpisodeReplayBuffer:
        # Written from the last transform to the first, sampled from the first to the last.
        folder = scratch_dir / name
        transforms = _deduplication(
            config, observations, demos[0], folder, frame_stack, capacity, where, parts=parts
        )
        transforms.append(
            EpisodeToTransitions(
                [*observations, *(policy.out_keys[0] for policy in cached)],
                n_steps=config.n_steps * chunk_size,
                gamma=gamma,
                time_limit_terminates=config.time_limit_terminates,
            )
        )
        if chunk_size > 1:
            transforms.append(ChunkActions(chunk_size))
        transforms += map(CacheProposals, cached)
        if reward is not None:
            transforms.append(ConstantReward(reward))
        return episode_buffer(
            capacity,
            config.batch_size,
            Compose(*transforms),
            storage=_storage(config),
            scratch_dir=folder,
            device=where,
            prioritized=config.prioritized,
            alpha=config.alpha,
            beta=config.beta,
        )

    def filled_buffer(
        name: str, episodes: Iterable[TensorDictBase], capacity: int, *, parts: bool = False
    ) -> EpisodeReplayBuffer:
        filled = buffer(name, config.offline_reward, capacity, parts=parts)
        for episode in episodes:
            filled.extend(episode)
        return filled

    if not demos_in_replay:
        return buffer("online", config.online_reward, config.capacity)
    # Critics learn from executed actions, behaviour cloning from the expert's. A buffer that is not
    # extended later takes no more disk or memory than the demonstrations.
    is_extended = config.offline_fraction is None or config.keep_successes or joining
    capacity = config.capacity if is_extended else num_demos
    filled = filled_buffer("demos", demos, capacity, parts=joining)
    replay: EpisodeReplayBuffer | MixedReplay = filled
    if config.offline_fraction is not None:
        replay = MixedReplay(
            filled,
            buffer("online", config.online_reward, config.capacity),
            offline_fraction=config.offline_fraction,
            batch_size=config.batch_size,
            keep_successes=config.keep_successes,
            keep_interventions=joining,
            shortest_intervention=SHORTEST_TRUNCATED if _images(observations, demos[0]) else 1,
            final_fraction=config.offline_fraction_final,
            anneal_frames=config.offline_fraction_frames or 1,
        )
    if not with_demos:
        return replay
    capacity = config.capacity if config.imitate_successes else num_demos
    imitated = filled_buffer("beside", map(imitation_episode, demos), capacity)
    return ReplayWithDemos(replay, imitated, keep_successes=config.imitate_successes)


def build_imitation_buffer(
    config: ReplayConfig,
    keys: Sequence[str],
    batch_size: int,
    demos: Sequence[TensorDict],
    scratch_dir: Path,
    *,
    chunk_size: int = 1,
    frame_stack: int = 1,
) -> EpisodeReplayBuffer:
    """Buffer of single steps for behaviour cloning, which holds the demonstrations.

    Args:
        config: capacity and storage.
        keys: observation keys that the policy reads.
        batch_size: transitions in a sample.
        demos: demonstrations, TensorDicts [T]; labels of an expert replace their actions.
        scratch_dir: folder of memory maps.
        chunk_size: actions in the chunks that the policy predicts.
        frame_stack: images in an observation.
    """
    transforms = _deduplication(config, keys, demos[0], scratch_dir, frame_stack, config.capacity)
    buffer = episode_buffer(
        config.capacity,
        batch_size,
        Compose(*transforms, EpisodeToTransitions(keys, n_steps=1), ChunkActions(chunk_size)),
        storage=_storage(config),
        scratch_dir=scratch_dir,
    )
    for episode in demos:
        buffer.extend(imitation_episode(episode))
    return buffer


def _images(keys: Iterable[str], episode: TensorDictBase) -> list[str]:
    """Those keys of observations whose values are images."""
    return [key for key in keys if episode[key].dtype == torch.uint8]


def _deduplication(
    config: ReplayConfig,
    keys: Sequence[str],
    episode: TensorDictBase,
    scratch_dir: Path,
    frame_stack: int,
    capacity: int,
    device: torch.device | None = None,
    *,
    parts: bool = False,
) -> list[Transform]:
    """Transform that stores each image once; none for observations without images."""
    images = _images(keys, episode)
    if not images:
        return []
    return [
        DeduplicateImages(
            images,
            capacity,
            frame_stack=frame_stack,
            parts=parts,
            storage=_storage(config),
            scratch_dir=scratch_dir,
            device=device,
        )
    ]


def _storage(config: ReplayConfig) -> Storage:
    """Kind of storage, wherever the device of its memory is."""
    return "memmap" if config.storage == "memmap" else "memory"


def require_demonstrated(config: ReplayConfig, episodes: Iterable[TensorDictBase]) -> None:
    """Refuse a reward of every demonstrated step where others than the expert acted.

    Args:
        config: settings.
        episodes: demonstrations, TensorDicts [T].

    Raises:
        UsageError: an episode has labels of the expert, as those of DAgger.
    """
    for episode in episodes:
        require(
            config.offline_reward is None or EXPERT_ACTION not in episode,
            "replay.offline_reward",
            config.offline_reward,
            "null with demonstrations of ibrl dagger, which the learner executed in part; use a "
            "file of ibrl demos",
        )


def require_replay_fits(
    config: ReplayConfig,
    env: EnvBase,
    keys: Sequence[str],
    scratch_dir: str | Path,
    *,
    frame_stack: int = 1,
    num_actions: int = 1,
    beside: Iterable[tuple[Sequence[str], int]] = (),
    interventions: bool = False,
    device: torch.device | None = None,
) -> None:
    """Print the size of the full replay and refuse one that does not fit, before allocation.

    Args:
        config: settings of the replay.
        env: environment, for the shapes.
        keys: observation keys that it stores.
        run_dir: run folder, for files.
        frame_stack: images in an observation.
        num_actions: number of actions in a transition.
        beside: observation keys and number of actions of each buffer of the same capacity beside
            it. Default none.
        interventions: somebody else may act in online episodes. Default False.

    Raises:
        UsageError: it does not fit, or episodes are too short for its images.
    """
    beside = [*beside]
    horizon = getattr(env, "horizon", None)
    if (
        horizon is not None
        and horizon < SHORTEST_TRUNCATED
        and any(key.endswith("_image") for key in chain(keys, *(each for each, _ in beside)))
    ):
        raise UsageError(
            f"task.horizon={horizon} must be at least {SHORTEST_TRUNCATED} to learn from images"
        )
    needed = replay_bytes(
        config,
        env,
        keys,
        frame_stack=frame_stack,
        num_actions=num_actions,
        interventions=interventions,
    )
    single = replace(config, keep_successes=False, imitate_successes=False)
    needed += sum(
        replay_bytes(single, env, each, frame_stack=frame_stack, num_actions=number)
        for each, number in beside
    )
    place, available, remedy = _place(config.storage, scratch_dir, device)
    echo(f"replay: {needed / 1e9:.2f} GB when full, {place}")
    require_memory(needed, available, remedy)


def _place(
    storage: str, scratch_dir: str | Path, device: torch.device | None
) -> tuple[str, int, str]:
    """Place of a storage in words, the bytes available there, and the remedy for too few."""
    if storage == "memmap":
        return "on disk", available_disk(scratch_dir), "lower replay.capacity"
    if storage == "device" and device is not None and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return f"on {device}", free, "lower replay.capacity or use storage=memory"
    return "in memory", available_memory(), "lower replay.capacity or use storage=memmap"
