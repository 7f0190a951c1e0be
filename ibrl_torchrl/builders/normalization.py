"""What networks see of an observation's numbers, and by which statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase

from ibrl_torchrl.config.task import TaskConfig
from ibrl_torchrl.keys import PROPRIO, STATE
from ibrl_torchrl.modules import Normalize

# Statistics by observation key; a network takes a copy, to be saved with what it uses.
Scales = Mapping[str, Normalize]

_KEYS = (STATE, PROPRIO)
_SEED = 300_000  # of the start states; those of evaluations are others


def observation_scales(
    task: TaskConfig, env: EnvBase, episodes: Sequence[TensorDictBase]
) -> Scales:
    """Statistics of everything demonstrated that is not an image.

    Every standard deviation is at least ``task.min_std`` and at least that of ``task.start_states``
    start states: what a few demonstrations never moved, such as how an object is turned, would
    swamp a network the first time it is another.

    Args:
        task: which parts of the state are seen, and these bounds.
        env: gives start states; its seed is another one afterwards.
        episodes: the demonstrations.
    """
    keys = [key for key in _KEYS if key in episodes[0]]
    spread = _start_spread(task, env, keys)
    return {
        key: Normalize.from_data(
            torch.cat([episode[key] for episode in episodes]),
            spread[key].clamp_min(task.min_std),
            _entries(key, task, env),
        )
        for key in keys
    }


def placeholder_scales(task: TaskConfig, env: EnvBase) -> Scales:
    """Statistics that a checkpoint will replace."""
    spec = env.observation_spec
    return {key: Normalize.identity(spec[key].shape[-1], _entries(key, task, env)) for key in _KEYS}


def _entries(key: str, task: TaskConfig, env: EnvBase) -> Tensor | None:
    """Which numbers of a (stacked) observation are seen, None for all."""
    if key != STATE or task.state_parts is None:
        return None
    size = sum(env.state_parts.values())
    places = torch.arange(size).split([*env.state_parts.values()])
    place_of = dict(zip(env.state_parts, places, strict=True))
    chosen = torch.cat([place_of[name] for name in task.state_parts])
    return torch.cat([chosen + frame * size for frame in range(task.state_stack)])


def _start_spread(task: TaskConfig, env: EnvBase, keys: Sequence[str]) -> dict[str, Tensor]:
    """Standard deviations over start states, repeated for each state in an observation."""
    if task.start_states == 0 or not keys:  # images alone need no start states, nor their time
        return {key: torch.zeros(env.observation_spec[key].shape[-1]) for key in keys}
    starts: dict[str, list[Tensor]] = {key: [] for key in keys}
    with torch.random.fork_rng():
        for seed in range(_SEED, _SEED + task.start_states):
            env.set_seed(seed)
            start = env.reset()
            for key in keys:
                starts[key].append(start[key].cpu().chunk(task.state_stack)[-1])
    return {
        key: torch.stack(found).std(0, correction=0).repeat(task.state_stack)
        for key, found in starts.items()
    }
