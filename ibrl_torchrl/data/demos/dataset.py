"""Demonstration files in robomimic's HDF5 layout.

::

    data                     attributes: total (transitions), env_args (JSON)
    data/demo_0              attributes: num_samples (T), model_file (XML, robosuite only)
    data/demo_0/obs/KEY      [T, ...]  observation before each action
    data/demo_0/obs/CAMERA_image [T, H, W, 3]  uint8, right side up
    data/demo_0/next_obs/KEY [T, ...]  observation after it; images and other files lack it
    data/demo_0/actions      [T, A]    in [-1, 1]
    data/demo_0/rewards      [T]       1 at success
    data/demo_0/dones        [T]       1 at the end of the episode
    data/demo_0/states       [T, n]    simulator state before each action
    mask/KEY                 [n]       names of episodes, such as the training set; not written

Files of robosuite tasks hold ``state`` and ``proprio`` in parts, see ``robomimic.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensordict import TensorDict
from torchrl.envs import EnvBase

from ibrl_torchrl.envs.env_args import signature
from ibrl_torchrl.episodes import observation_keys
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import ACTION, NEXT, SUCCESS


@dataclass(frozen=True)
class Demos:
    """The episodes of one file.

    Attributes:
        episodes: one TensorDict [T] per episode in TorchRL's layout, float32 and bool. Each ends
            at its first success, which terminates it; one without success ends truncated.
        env_args: what rebuilds the environment (``env_name``, ``type``, ``env_kwargs``); empty if
            the file does not say.
        path: the file they were read from.
    """

    episodes: list[TensorDict]
    env_args: dict[str, Any]
    path: Path

    def summary(self) -> dict[str, Any]:
        """Counts and shapes, ready for JSON.

        Returns:
            ``episodes``, ``transitions``, ``length_min``, ``length_mean``, ``length_max``,
            ``success_rate`` in [0, 1], ``action_size``, and ``observations``, the shape of each
            observation key.
        """
        lengths = [len(episode) for episode in self.episodes]
        successes = [bool(episode[NEXT, SUCCESS][-1]) for episode in self.episodes]
        first = self.episodes[0]
        return {
            "episodes": len(lengths),
            "transitions": sum(lengths),
            "length_min": min(lengths),
            "length_mean": sum(lengths) / len(lengths),
            "length_max": max(lengths),
            "success_rate": sum(successes) / len(successes),
            "action_size": first[ACTION].shape[-1],
            "observations": {key: list(first[key].shape[1:]) for key in observation_keys(first)},
        }


def check_demos_match(demos: Demos, env: EnvBase) -> None:
    """Refuse demonstrations that were not made in an environment's task.

    Compares the task, robots and controllers, the action repeat and, if images were loaded, the
    render quality, where both sides name them, the size of the actions, and the shape of each
    observation that was loaded.

    Args:
        demos: as loaded.
        env: the environment to act in, not a batch of them.

    Raises:
        UsageError: they differ; the message names both values.
    """
    recorded, present = demos.summary(), dict(env.observation_spec.items())
    names = ["action_repeat"]
    if any(key.endswith("_image") for key in recorded["observations"]):
        names.append("render_quality")
    found = {**_task(demos.env_args, names), "action size": recorded["action_size"]}
    wanted = {
        **_task(getattr(env, "env_args", {}), names),
        "action size": env.action_spec.shape[-1],
    }
    for key, shape in recorded["observations"].items():
        if key not in present:
            raise UsageError(
                f"{demos.path}: the environment has no observation {key!r}, it has "
                f"{', '.join(present)}; load the keys that both have"
            )
        found[f"shape of {key}"] = shape
        wanted[f"shape of {key}"] = list(present[key].shape)
    for name in found:
        if name in wanted and found[name] != wanted[name]:
            raise UsageError(
                f"{demos.path}: recorded with {name} {found[name]}, "
                f"the environment has {wanted[name]}; make it the same or record again"
            )


def simulator_difference(demos: Demos, env: EnvBase) -> str | None:
    """A line about another version of the simulator, or None if it is the same."""
    recorded, present = demos.env_args, getattr(env, "env_args", {})
    versions = recorded.get("env_version"), present.get("env_version")
    if None in versions or versions[0] == versions[1]:
        return None
    return (
        f"{demos.path}: recorded with version {versions[0]} of the simulator, "
        f"here is {versions[1]}; physics may differ (ibrl demos check tells how much it matters)"
    )


def _task(env_args: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The task of ``env_args``, and those of its settings that are named and present."""
    settings = {**env_args.get("env_kwargs", {}), **env_args.get("ibrl_torchrl", {})}
    parts = {"task": env_args.get("env_name"), **{name: settings.get(name) for name in names}}
    told = {name: value for name, value in parts.items() if value is not None}
    return {**told, **signature(env_args)}
