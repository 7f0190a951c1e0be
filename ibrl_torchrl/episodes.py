"""Episodes: observation keys, stacked observations, and one packed form for pipes and files."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.envs import CatFrames

from ibrl_torchrl.keys import DONE, NEXT, REWARD, SUCCESS, TERMINATED, TRUNCATED

_OUTCOMES = {REWARD, DONE, TERMINATED, TRUNCATED, SUCCESS}
# Prefixes of a packed episode's arrays.
_OBSERVATION, _ROOT, _NEXT = "observation/", "root/", "next/"


def observation_keys(episode: TensorDictBase) -> list[str]:
    """Keys of an episode's observations, sorted; ``success`` counts as an outcome of a step."""
    return sorted(set(episode[NEXT].keys()) - _OUTCOMES)


def pack_episode(
    episode: TensorDictBase,
    keys: Sequence[str] | None = None,
    *,
    frame_stack: int = 1,
    state_stack: int = 1,
) -> dict[str, Tensor]:
    """Pack an episode into arrays that hold each observation once.

    The inverse is :func:`unpack_episode`. It serves rollout workers, the episode log and
    checkpoints.

    Args:
        episode: TensorDict [T] in TorchRL's layout, whose observation after step t is that before
            step t + 1.
        keys: observation keys to pack; None packs all, and everything else at the root.
        frame_stack: images in an observation, of which the newest alone is packed.
        state_stack: states in any other observation, likewise.

    Returns:
        Observations [T + 1, ...], the last one included; everything else [T, ...].
    """
    observations = observation_keys(episode) if keys is None else [*keys]
    single = unstack_frames(
        episode.select(*observations, *((NEXT, key) for key in observations)),
        frame_stack,
        state_stack,
    )
    packed = {
        f"{_OBSERVATION}{key}": torch.cat([single[key], single[NEXT, key][-1:]])
        for key in observations
    }
    dropped = {*observations, *([] if keys is None else observation_keys(episode)), NEXT}
    for key, values in episode.items():
        if key not in dropped and (keys is None or key not in _OUTCOMES):
            packed[f"{_ROOT}{key}"] = values.clone()
    for key, values in episode[NEXT].items():
        if key in _OUTCOMES:
            packed[f"{_NEXT}{key}"] = values.clone()
    return packed


def unpack_episode(
    packed: dict[str, Tensor], *, frame_stack: int = 1, state_stack: int = 1
) -> TensorDict:
    """Unpack an episode, TensorDict [T], of :func:`pack_episode` with the same stacks."""
    before: dict[str, Tensor] = {}
    after: dict[str, Tensor] = {}
    for name, values in packed.items():
        kind, key = name.split("/", 1)
        if kind + "/" == _OBSERVATION:
            before[key], after[key] = values[:-1], values[1:]
        elif kind + "/" == _ROOT:
            before[key] = values
        else:
            after[key] = values
    length = len(next(iter(after.values())))
    episode = TensorDict({**before, NEXT: TensorDict(after, [length])}, [length])
    stack_frames(episode, frame_stack, state_stack)
    return episode


def stack_frames(episode: TensorDictBase, frames: int, states: int) -> None:
    """Replace each observation of an episode by the last few, in place, by ``CatFrames``.

    Before the start, the first image is repeated and states are zero.

    Args:
        episode: TensorDict [T] with single observations.
        frames: images [C, H, W] in an observation.
        states: vectors [n] in any other observation.
    """
    for key in observation_keys(episode):
        image = _is_image(episode[key])
        depth = frames if image else states
        if depth > 1:
            stack = CatFrames(
                depth,
                -3 if image else -1,
                in_keys=[key, (NEXT, key)],
                padding="same" if image else "constant",
            )
            timed = episode.copy()
            timed.names = [*episode.names[:-1], "time"]
            episode.update(stack(timed).select(key, (NEXT, key)))


def unstack_frames(episode: TensorDictBase, frames: int, states: int) -> TensorDictBase:
    """Episode with the newest observation of each stack alone; the inverse of `stack_frames`."""
    single = episode.copy()
    for key in observation_keys(episode):
        depth = frames if _is_image(episode[key]) else states
        for name in (key, (NEXT, key)):
            single[name] = episode[name][:, -(episode[name].shape[1] // depth) :]
    return single


def _is_image(values: Tensor) -> bool:
    return values.dtype == torch.uint8
