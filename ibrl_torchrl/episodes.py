"""Observations that hold the last few frames, made of single ones and taken apart again."""

from __future__ import annotations

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from ibrl_torchrl.keys import DONE, NEXT, REWARD, SUCCESS, TERMINATED, TRUNCATED


def stack_frames(episode: TensorDictBase, frames: int, states: int) -> None:
    """Replace each observation of an episode [T] by the last few, as ``CatFrames`` does.

    Before the start, the first image is repeated and numbers are zero.

    Args:
        episode: with single observations.
        frames: how many images [C, H, W] an observation holds.
        states: how many of anything else [n].
    """
    for key in observation_keys(episode):
        depth = _depth(episode[key], frames, states)
        if depth == 1:
            continue
        values = torch.cat([episode[key], episode[NEXT, key][-1:]])
        earlier = values[:1] if _is_image(values) else torch.zeros_like(values[:1])
        padded = torch.cat([earlier.expand(depth - 1, *values.shape[1:]), values])
        stacked = torch.cat([padded[i : i + len(values)] for i in range(depth)], dim=1)
        episode[key], episode[NEXT, key] = stacked[:-1], stacked[1:]


def unstack_frames(episode: TensorDictBase, frames: int, states: int) -> TensorDict:
    """An episode [T] with the newest of each stack alone; the inverse of :func:`stack_frames`."""
    single = episode.copy()
    for key in observation_keys(episode):
        depth = _depth(episode[key], frames, states)
        for place in (key, (NEXT, key)):
            single[place] = episode[place][:, -(episode[place].shape[1] // depth) :]
    return single


def _is_image(values: Tensor) -> bool:
    return values.dtype == torch.uint8


def _depth(values: Tensor, frames: int, states: int) -> int:
    return frames if _is_image(values) else states


_OUTCOMES = {REWARD, DONE, TERMINATED, TRUNCATED, SUCCESS}


def observation_keys(episode: TensorDictBase) -> list[str]:
    """The keys of an episode that hold observations, sorted; ``success`` counts as an outcome."""
    return sorted(set(episode[NEXT].keys()) - _OUTCOMES)
