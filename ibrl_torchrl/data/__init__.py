"""Demonstrations and replay: what a policy learns from."""

from ibrl_torchrl.data.demo_reader import load_demos
from ibrl_torchrl.data.demo_writer import save_demos
from ibrl_torchrl.data.demos import Demos, check_demos_match, simulator_difference
from ibrl_torchrl.data.experts import scripted_expert
from ibrl_torchrl.data.frames import StoreFramesOnce
from ibrl_torchrl.data.proposals import RecordProposals
from ibrl_torchrl.data.recording import record_demos
from ibrl_torchrl.data.replay import (
    ConstantReward,
    DemoShareReplay,
    EpisodeToTransitions,
    WithDemos,
    episode_buffer,
)

__all__ = [
    "ConstantReward",
    "DemoShareReplay",
    "Demos",
    "EpisodeToTransitions",
    "RecordProposals",
    "StoreFramesOnce",
    "WithDemos",
    "check_demos_match",
    "episode_buffer",
    "load_demos",
    "record_demos",
    "save_demos",
    "scripted_expert",
    "simulator_difference",
]
