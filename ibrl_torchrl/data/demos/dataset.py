"""Demonstration dataset, and robomimic's HDF5 layout.

::

    data                     attributes: total (transitions), env_args (JSON)
    data/demo_0              attributes: num_samples (T), model_file (XML, robosuite only)
    data/demo_0/obs/KEY      [T, ...]  observation before each action
    data/demo_0/obs/CAMERA_image [T, H, W, 3]  uint8, right side up
    data/demo_0/next_obs/KEY [T, ...]  observation after each action; optional, not for images
    data/demo_0/actions      [T, A]    in [-1, 1], or within `action_bounds` of env_args
    data/demo_0/executed_actions [T, A] optional: executed instead of actions, which are labels
    data/demo_0/rewards      [T]       1 at success
    data/demo_0/dones        [T]       1 at the end of the episode
    data/demo_0/states       [T, n]    simulator state before each action, optional
    mask/KEY                 [n]       filter key: names of episodes, such as "train"; read only

Files of robosuite tasks store ``state`` and ``proprio`` in parts, see ``robomimic.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Bounded
from torchrl.envs import EnvBase

from ibrl_torchrl.envs.env_args import action_bounds, signature, with_action_bounds
from ibrl_torchrl.envs.spaces import Spaces
from ibrl_torchrl.episodes import observation_keys
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import ACTION, EXPERT_ACTION, NEXT, SUCCESS

_ACTIONS = (ACTION, EXPERT_ACTION)


@dataclass(frozen=True)
class Demos:
    """Demonstration episodes of one file.

    Attributes:
        episodes: one TensorDict [T] per episode in TorchRL's layout, float32, uint8 images and
            bool flags. An episode terminates at its first success or is truncated at its end.
            ``action`` was executed; episodes of DAgger have the expert's labels under
            ``expert_action``, see :func:`~ibrl_torchrl.episodes.imitation_episode`.
        env_args: robomimic's description of the environment (``env_name``, ``type``,
            ``env_kwargs``); empty if the file has none.
        path: the file.
    """

    episodes: list[TensorDict]
    env_args: dict[str, Any]
    path: Path

    def summary(self) -> dict[str, Any]:
        """Return counts and shapes that ``json.dumps`` accepts.

        Returns:
            ``episodes``, ``transitions``, ``length_min``, ``length_mean``, ``length_max``,
            ``success_rate`` in [0, 1], ``action_size``, and ``observations``, the shape of each
            observation key without T.
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


def match_native_actions(demos: Demos, env: EnvBase) -> Demos:
    """Demonstrations whose actions are in the bounds of an environment's actions.

    Args:
        demos: loaded demonstrations.
        env: environment of the policy.

    Returns:
        The demonstrations; if their bounds are those of the environment below its transforms, such
        as ``ActionScaling``, their actions are mapped linearly to those of ``env.action_spec``.
    """
    spaces = Spaces.of(env)
    space, native = spaces.action_spec.space, spaces.native_action_spec.space
    low, high = map(torch.from_numpy, action_bounds(demos.env_args))
    is_native = low.shape == native.low.shape and torch.equal(low, native.low.cpu())
    if not is_native or not torch.equal(high, native.high.cpu()):
        return demos
    to_low, to_high = space.low.cpu(), space.high.cpu()

    def mapped(action: Tensor) -> Tensor:
        share = (action - low) / (high - low)
        return (to_low + share * (to_high - to_low)).clamp(to_low, to_high)

    episodes = [
        episode.copy().update({key: mapped(episode[key]) for key in _ACTIONS if key in episode})
        for episode in demos.episodes
    ]
    env_args = with_action_bounds(demos.env_args, (to_low.numpy(), to_high.numpy()))
    return replace(demos, episodes=episodes, env_args=env_args)


def check_demos_match(demos: Demos, env: EnvBase) -> None:
    """Check that demonstrations were recorded in an environment's task.

    Compares the task, robots and controllers, the action repeat and, if images were loaded, the
    render quality, where both sides state them, the size and bounds of the actions, and the shape
    of each loaded observation.

    Args:
        demos: loaded demonstrations.
        env: unbatched environment of the policy.

    Raises:
        UsageError: they differ; the message states both values.
    """
    summary, specs = demos.summary(), dict(env.observation_spec.items())
    names = ["action_repeat"]
    if any(key.endswith("_image") for key in summary["observations"]):
        names.append("render_quality")
    recorded = {**_task(demos.env_args, names), "action size": summary["action_size"]}
    current = {
        **_task(getattr(env, "env_args", {}), names),
        "action size": env.action_spec.shape[-1],
    }
    bounds = action_bounds(demos.env_args)
    if isinstance(env.action_spec, Bounded) and recorded["action size"] == current["action size"]:
        space = env.action_spec.space
        size = current["action size"]
        recorded["action bounds"] = [np.broadcast_to(each, (size,)).tolist() for each in bounds]
        current["action bounds"] = [space.low.tolist(), space.high.tolist()]
    for key, shape in summary["observations"].items():
        if key not in specs:
            raise UsageError(
                f"{demos.path}: the environment has no observation {key!r}, it has "
                f"{', '.join(specs)}; load the keys that both have"
            )
        recorded[f"shape of {key}"] = shape
        current[f"shape of {key}"] = list(specs[key].shape)
    for name in recorded:
        if name in current and recorded[name] != current[name]:
            raise UsageError(
                f"{demos.path}: recorded with {name} {recorded[name]}, "
                f"the environment has {current[name]}; use the same value or record again"
            )


def simulator_difference(demos: Demos, env: EnvBase) -> str | None:
    """Return a warning if demonstrations were recorded with another simulator version, else None.

    Args:
        demos: loaded demonstrations.
        env: environment of the policy.
    """
    recorded = demos.env_args.get("env_version")
    installed = getattr(env, "env_args", {}).get("env_version")
    if None in (recorded, installed) or recorded == installed:
        return None
    return (
        f"{demos.path}: recorded with version {recorded} of the simulator, here is {installed}; "
        "physics may differ, measure it with: ibrl demos check"
    )


def _task(env_args: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Task, robots and controllers of ``env_args``, and those settings of ``names`` it has."""
    settings = {**env_args.get("env_kwargs", {}), **env_args.get("ibrl_torchrl", {})}
    values = {"task": env_args.get("env_name"), **{name: settings.get(name) for name in names}}
    stated = {name: value for name, value in values.items() if value is not None}
    return {**stated, **signature(env_args)}
