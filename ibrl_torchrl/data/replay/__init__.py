"""Replay: whole episodes in, n-step transitions out."""

from ibrl_torchrl.data.replay.buffer import episode_buffer
from ibrl_torchrl.data.replay.cached_actions import CacheProposals
from ibrl_torchrl.data.replay.images import DeduplicateImages
from ibrl_torchrl.data.replay.mixing import MixedReplay, ReplayWithDemos
from ibrl_torchrl.data.replay.transitions import ConstantReward, EpisodeToTransitions

__all__ = [
    "CacheProposals",
    "ConstantReward",
    "DeduplicateImages",
    "EpisodeToTransitions",
    "MixedReplay",
    "ReplayWithDemos",
    "episode_buffer",
]
