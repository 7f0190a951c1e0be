"""Normalisation of observations: which numbers networks read, and by which statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase

from ibrl_torchrl.config.task import TaskConfig
from ibrl_torchrl.envs.spaces import Spaces
from ibrl_torchrl.keys import PROPRIO, STATE
from ibrl_torchrl.modules import Normalize
from ibrl_torchrl.runtime import forked_rng

# By observation key; every network takes a copy, to be saved with it.
Normalizers = Mapping[str, Normalize]

_KEYS = (STATE, PROPRIO)
_SEED = 300_000  # of the initial states; evaluations use others
_REMOVED = 1e30  # standard deviation by which nothing remains; finite, as checkpoints must be


def observation_normalizers(
    task: TaskConfig, env: EnvBase, episodes: Sequence[TensorDictBase]
) -> Normalizers:
    """Normalisation by the statistics of demonstrations, images excepted.

    Every standard deviation is at least ``task.min_std`` and at least that of
    ``task.num_init_states`` initial states: entries that a few demonstrations hardly vary, such as
    an object's orientation, would otherwise dominate the network at their first new value.

    Args:
        task: parts of the state that networks read, and the bounds.
        env: environment of the initial states; its seed is another one afterwards.
        episodes: demonstrations, TensorDicts [T].
    """
    keys = [key for key in _KEYS if key in episodes[0]]
    spread = _initial_spread(task, env, keys)
    observations = {key: torch.cat([episode[key] for episode in episodes]) for key in keys}
    return {
        key: Normalize.from_data(
            values,
            spread[key].clamp_min(task.min_std),
            _entries(key, task, env),
            _differences(key, task, env),
            _min_std_differences(key, values, task, env),
        )
        for key, values in observations.items()
    }


def identity_normalizers(task: TaskConfig, env: EnvBase | Spaces) -> Normalizers:
    """Normalisation of the right shapes, to be overwritten by a checkpoint."""
    spec = env.observation_spec
    return {
        key: Normalize.identity(
            spec[key].shape[-1], _entries(key, task, env), _differences(key, task, env)
        )
        for key in _KEYS
        if key in spec
    }


def with_action(normalize: Normalize, observation_size: int, action_size: int) -> Normalize:
    """Normalisation of a state followed by an action, which stays as it is."""
    entries, differences = normalize.entries, normalize.differences
    if entries is not None:
        entries = torch.cat([entries, torch.arange(action_size) + observation_size])
    pairs = 0 if differences is None else len(differences)
    kept = normalize.size - pairs  # differences follow the action
    (mean, relative_mean), (std, relative_std) = (
        values.split([kept, pairs]) for values in (normalize.mean, normalize.std)
    )
    return Normalize(
        torch.cat([mean, torch.zeros(action_size), relative_mean]),
        torch.cat([std, torch.ones(action_size), relative_std]),
        entries,
        differences,
    )


def _entries(key: str, task: TaskConfig, env: EnvBase | Spaces) -> Tensor | None:
    """Indices of the entries of a (stacked) observation that networks read; None for all."""
    if key != STATE or task.state_parts is None:
        return None
    return _indices(task.state_parts, task, env).flatten()


def _differences(key: str, task: TaskConfig, env: EnvBase | Spaces) -> Tensor | None:
    """Pairs of entries of a (stacked) state whose differences networks read; None for none."""
    pairs = _position_pairs(key, task, env)
    return torch.cat(pairs) if pairs else None


def _min_std_differences(
    key: str, observations: Tensor, task: TaskConfig, env: EnvBase | Spaces
) -> Tensor:
    """Lower bounds [d] of the differences' standard deviations, which remove absent objects.

    Meta-World gives 0 as the position of a second object that a task does not have. A difference
    from it would be an absolute position on the finer scale of differences.
    """
    bounds = [torch.empty(0)]
    for pairs in _position_pairs(key, task, env):
        is_present = observations[:, pairs].any(0).any(0)  # each of the two
        bound = task.min_std_relative if bool(is_present.all()) else _REMOVED
        bounds.append(torch.full((len(pairs),), bound))
    return torch.cat(bounds)


def _position_pairs(key: str, task: TaskConfig, env: EnvBase | Spaces) -> list[Tensor]:
    """Corresponding entries of every two of the positions in a (stacked) state, int64 [n, 2]."""
    if key != STATE:
        return []
    return [
        _indices(parts, task, env).unflatten(-1, (2, -1)).mT.flatten(0, 1)
        for parts in combinations(task.relative_positions, 2)
    ]


def _indices(parts: Sequence[str], task: TaskConfig, env: EnvBase | Spaces) -> Tensor:
    """Indices of the entries of parts of a state, one after the other, int64 [state_stack, n]."""
    size = sum(env.state_parts.values())
    indices = torch.arange(size).split([*env.state_parts.values()])
    indices_of = dict(zip(env.state_parts, indices, strict=True))
    entries = torch.cat([indices_of[name] for name in parts])
    return entries + size * torch.arange(task.state_stack)[:, None]


def _initial_spread(task: TaskConfig, env: EnvBase, keys: Sequence[str]) -> dict[str, Tensor]:
    """Standard deviations over initial states, repeated for each state of a stack."""
    if task.num_init_states == 0 or not keys:  # images alone need no initial states
        return {key: torch.zeros(env.observation_spec[key].shape[-1]) for key in keys}
    values: dict[str, list[Tensor]] = {key: [] for key in keys}
    with forked_rng(env.device):
        for seed in range(_SEED, _SEED + task.num_init_states):
            env.set_seed(seed)
            initial = env.reset()
            for key in keys:
                values[key].append(initial[key].cpu().chunk(task.state_stack)[-1])
    return {
        key: torch.stack(states).std(0, correction=0).repeat(task.state_stack)
        for key, states in values.items()
    }
