"""Demonstrations: load, save, record and replay.

Formats are robomimic's HDF5 files, LeRobot's datasets and, read only, Minari's.
"""

from ibrl_torchrl.data.demos.dataset import (
    Demos,
    check_demos_match,
    match_native_actions,
    simulator_difference,
)
from ibrl_torchrl.data.demos.lerobot_write import save_lerobot
from ibrl_torchrl.data.demos.read import load_demos
from ibrl_torchrl.data.demos.record import record_demos, record_episode
from ibrl_torchrl.data.demos.write import append_demos, save_demos

__all__ = [
    "Demos",
    "append_demos",
    "check_demos_match",
    "load_demos",
    "match_native_actions",
    "record_demos",
    "record_episode",
    "save_demos",
    "save_lerobot",
    "simulator_difference",
]
