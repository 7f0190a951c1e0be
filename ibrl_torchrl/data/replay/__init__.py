"""Replay buffers that store episodes as n-step transitions."""

from ibrl_torchrl.data.replay.buffer import EpisodeReplayBuffer, Replay, episode_buffer
from ibrl_torchrl.data.replay.cached_actions import CacheProposals
from ibrl_torchrl.data.replay.chunks import ChunkActions
from ibrl_torchrl.data.replay.images import DeduplicateImages
from ibrl_torchrl.data.replay.mixing import MixedReplay, ReplayWithDemos
from ibrl_torchrl.data.replay.prioritized import PortablePrioritizedSampler
from ibrl_torchrl.data.replay.transitions import ConstantReward, EpisodeToTransitions

__all__ = [
    "CacheProposals",
    "ChunkActions",
    "ConstantReward",
    "DeduplicateImages",
    "EpisodeReplayBuffer",
    "EpisodeToTransitions",
    "MixedReplay",
    "PortablePrioritizedSampler",
    "Replay",
    "ReplayWithDemos",
    "episode_buffer",
]
