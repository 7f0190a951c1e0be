"""Settings of a task and of its demonstrations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ibrl_torchrl.config.setting import MAX_FIRST_SEED, setting


@dataclass(kw_only=True)
class TaskConfig:
    """Task, its episodes and its observations; chosen by ``task=SUITE/NAME`` or ``task=gym``."""

    suite: str = setting(
        help="Simulator: metaworld, robosuite, gym, another package's, or MODULE:NAME."
    )
    name: str = setting(help="Task of that suite; of gym an id, such as FetchPush-v4.")
    success: str | None = setting(
        None,
        help="Success of a gym task: info:KEY, reward:NUMBER (of a step, at least) or terminated.",
    )
    kwargs: dict[str, Any] = setting({}, help="Further arguments of the suite's environment.")
    action_repeat: int = setting(
        help="Simulator steps (robosuite: control steps of 20 Hz) that an action is held for.",
        at_least=1,
        at_most=1000,
    )
    horizon: int | None = setting(
        help="Length at which an episode is truncated; null: the environment's own.",
        at_least=1,
        at_most=10**6,
        unit="frames",
    )
    cameras: list[str] = setting([], help="Cameras rendered at every step; paper: [corner2].")
    proprio: list[str] = setting(
        [], help="Entries of a gym task's observation that are proprio; other suites have theirs."
    )
    image_size: int = setting(
        96, help="Height and width of images.", at_least=1, at_most=4096, unit="pixels"
    )
    render_quality: str = setting(
        "fast",
        help="Rendering; demonstrations, imitation and RL must use the same.",
        choices=("fast", "shadows", "full"),
    )
    frame_stack: int = setting(1, help="Images in an observation.", at_least=1, at_most=64)
    state_stack: int = setting(
        help="States (and proprioception) in an observation; original code on robosuite: 3.",
        at_least=1,
        at_most=64,
    )
    state_parts: list[str] | None = setting(
        None, help="Names of the parts of a state that networks read; null: all.", at_least=1
    )
    relative_positions: list[str] = setting(
        [],
        help="Names of parts that are positions in one frame of reference: networks of states read "
        "their differences, too.",
    )
    min_std: float = setting(
        help="Lower bound of the standard deviations that normalise observations.", above=0
    )
    min_std_relative: float = setting(
        0.03, help="Lower bound of those of task.relative_positions.", above=0
    )
    num_init_states: int = setting(
        help="Initial states whose standard deviation is another lower bound.",
        at_least=0,
        at_most=10**5,
    )

    @property
    def label(self) -> str:
        """Suite and task, such as ``"metaworld/box-close"``."""
        return f"{self.suite}/{self.name}"


@dataclass(kw_only=True)
class DemosConfig:
    """Demonstrations."""

    path: str | None = setting(
        None,
        help="HDF5 file in robomimic's layout, or folder of a dataset of LeRobot or Minari; null: "
        "record a scripted expert into the run folder.",
    )
    expert: str | None = setting(
        None, help="Scripted expert, MODULE:NAME or a suite's; null: that of task.suite."
    )
    episodes: int = setting(3, help="Episodes to use, or to record.", at_least=1, at_most=10**6)
    noise: float = setting(
        0.0,
        help="Standard deviation of Gaussian noise on the scripted expert's actions.",
        at_least=0,
    )
    seed: int = setting(
        100,
        help="Seed of the first initial state while recording; the next has seed + 1.",
        at_least=0,
        at_most=MAX_FIRST_SEED,
    )
    filter_key: str | None = setting(
        None, help="List of episodes in the file, such as train; null: all."
    )
    native_actions: bool = setting(
        False,
        help="Actions in the file are in the environment's own bounds, which the file does not "
        "state, instead of [-1, 1].",
    )
    keys: dict[str, list[str]] = setting(
        dict,
        help="Names in the file of what makes up an observation: keys.state=[ee_pos,object_pose].",
        at_least=1,
    )


@dataclass(kw_only=True)
class ReplayedDemosConfig(DemosConfig):
    """Demonstrations of a run, which reinforcement learning may use beside imitation."""

    in_replay: bool = setting(
        True, help="Learn from them by RL, too; false: they train imitation policies alone."
    )
