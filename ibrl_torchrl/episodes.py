"""Episodes: observation keys, frame stacking, and the packed format of pipes and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import (
    ACTION,
    DONE,
    EXECUTED_ACTION,
    EXPERT_ACTION,
    INTERVENTION,
    NEXT,
    NO_PROPOSAL,
    PROPOSAL,
    REWARD,
    SUCCESS,
    TERMINATED,
    TRUNCATED,
)

_OUTCOMES = {REWARD, DONE, TERMINATED, TRUNCATED, SUCCESS}
_REPORTS = {INTERVENTION, EXECUTED_ACTION}  # of an environment, see `executed_episode`
# Prefixes of the keys of a packed episode.
_OBSERVATION, _ROOT, _NEXT = "observation/", "root/", "next/"


def observation_keys(episode: TensorDictBase) -> list[str]:
    """Sorted keys of an episode's observations, without ``success``, an outcome of a step."""
    return sorted(set(episode[NEXT].keys()) - _OUTCOMES - _REPORTS)


def require_same_shapes(episode: TensorDictBase, example: TensorDictBase, where: object) -> None:
    """Refuse an episode whose steps have other shapes or dtypes than those of another one.

    Args:
        episode: TensorDict [T] in TorchRL's layout.
        example: likewise; its observations, actions and rewards are compared.
        where: file of the episode, for the message.

    Raises:
        UsageError: names the first difference.
    """
    keys = observation_keys(example)
    for key in [ACTION, (NEXT, REWARD), *keys, *((NEXT, key) for key in keys)]:
        values, expected = episode.get(key, None), example[key]
        if values is None or (values.shape[1:], values.dtype) != (
            expected.shape[1:],
            expected.dtype,
        ):
            name = key if isinstance(key, str) else ".".join(key)
            found = "none" if values is None else f"{values.dtype} {[*values.shape[1:]]}"
            raise UsageError(
                f"{where}: {name} of a step is {found}, of a demonstration "
                f"{expected.dtype} {[*expected.shape[1:]]}; start the run again"
            )


def action_chunks(actions: Tensor, size: int) -> Tensor:
    """Chunk of the actions from each step of an episode on.

    Past the end of the episode its last action is repeated, as TorchRL's ``ActionChunkTransform``
    does.

    Args:
        actions: float [T, A].
        size: number of actions h in a chunk.

    Returns:
        float [T, h A], ordered by step.

    Example:
        >>> action_chunks(torch.arange(3.0)[:, None], 2).tolist()
        [[0.0, 1.0], [1.0, 2.0], [2.0, 2.0]]
    """
    return actions[window_steps(len(actions), size, actions.device)].flatten(1)


def window_steps(length: int, size: int, device: torch.device | None = None) -> Tensor:
    """Steps of the windows from each step of an episode on, which repeat its last step.

    Args:
        length: number of steps T.
        size: steps of a window h.
        device: device of the result; None (default): PyTorch's.

    Returns:
        int64 [T, h].

    Example:
        >>> window_steps(3, 2).tolist()
        [[0, 1], [1, 2], [2, 2]]
    """
    start = torch.arange(length, device=device)[:, None]
    return (start + torch.arange(size, device=device)).clamp(max=length - 1)


def succeeds(episode: TensorDictBase) -> bool:
    """Whether an episode [T] ends in a terminal state, which is success."""
    return bool(episode[NEXT, TERMINATED].any())


def imitation_episode(episode: TensorDictBase) -> TensorDictBase:
    """Episode whose ``action`` is what imitation learns.

    Args:
        episode: TensorDict [T], whose ``action`` was executed.

    Returns:
        The episode itself, or, if it has labels of an expert under ``expert_action``, a shallow
        copy with these as ``action``. Its next observations and rewards are those of the executed
        actions, so it is no data for a critic.
    """
    labels = episode.get(EXPERT_ACTION, None)
    return episode if labels is None else episode.copy().set(ACTION, labels)


def executed_episode(episode: TensorDictBase) -> TensorDictBase:
    """Episode whose ``action`` is what an environment with interventions has executed.

    Args:
        episode: TensorDict [T]. An environment in which somebody else may act instead of the policy
            reports under ``next`` whether that happened, ``intervention`` bool [T, 1], and
            ``executed_action`` float32 [T, A].

    Returns:
        The episode itself, or, of such an environment, a shallow copy without these reports, with
        ``intervention`` at the root, and where it is true with the executed action as ``action``
        and -1 as ``proposal``.

    Example:
        >>> step = {
        ...     "intervention": torch.tensor([[False], [True]]),
        ...     "executed_action": torch.tensor([[0.0], [0.7]]),
        ... }
        >>> episode = TensorDict(action=torch.zeros(2, 1), proposal=torch.ones(2).long(), next=step)
        >>> executed = executed_episode(episode.auto_batch_size_(1))
        >>> executed["action"].flatten(), executed["proposal"]
        (tensor([0.0000, 0.7000]), tensor([ 1, -1]))
    """
    reports = episode[NEXT].select(*_REPORTS, strict=False)
    intervention = reports.get(INTERVENTION, None)
    if intervention is None:
        return episode
    executed = episode.exclude(*_REPORTS, *((NEXT, key) for key in _REPORTS))
    executed[INTERVENTION] = intervention
    executed[ACTION] = torch.where(intervention, reports[EXECUTED_ACTION], episode[ACTION])
    if (proposal := episode.get(PROPOSAL, None)) is not None:
        executed[PROPOSAL] = proposal.masked_fill(intervention.view_as(proposal), NO_PROPOSAL)
    return executed


def intervened_segments(episode: TensorDictBase) -> list[TensorDictBase]:
    """Parts of an episode in which somebody else acted, step by step without a gap.

    Args:
        episode: TensorDict [T] of one episode, with ``intervention`` bool [T, 1] at the root, or
            without: then there are none.

    Returns:
        TensorDicts [T_i] in order, whose last step is ``done``. Where the episode went on it is
        neither ``terminated`` nor ``truncated``: a value function goes on there.

    Example:
        >>> flags = torch.tensor([[False], [True], [True], [False], [True]])
        >>> episode = TensorDict(intervention=flags, next=TensorDict(done=torch.zeros_like(flags)))
        >>> parts = intervened_segments(episode.auto_batch_size_(1))
        >>> [part["next", "done"].flatten().tolist() for part in parts]
        [[False, True], [True]]
    """
    intervention = episode.get(INTERVENTION, None)
    if intervention is None:
        return []
    flags = intervention.reshape(len(episode))
    changes = (flags[1:] != flags[:-1]).nonzero().flatten() + 1
    bounds = [0, *changes.tolist(), len(episode)]
    return [_ended(episode[start:end]) for start, end in pairwise(bounds) if flags[start]]


def _ended(part: TensorDictBase) -> TensorDictBase:
    """Shallow copy of a part of an episode whose last step is ``done``."""
    done = part[NEXT, DONE].clone()
    done[-1] = True
    return part.copy().set((NEXT, DONE), done)


def pack_episode(
    episode: TensorDictBase,
    keys: Sequence[str] | None = None,
    *,
    frame_stack: int = 1,
    state_stack: int = 1,
) -> dict[str, Tensor]:
    """Pack an episode into tensors that hold each observation once.

    Rollout workers, the episode log and checkpoints use this format; :func:`unpack_episode` is the
    inverse.

    Args:
        episode: TensorDict [T] in TorchRL's layout. Its next observation at step t must equal its
            observation at step t + 1; this is not checked.
        keys: observation keys to pack, without observations and outcomes at the root that are not
            named. None (default) packs every entry.
        frame_stack: images in an observation, of which the newest alone is packed. Default 1.
        state_stack: states in any other observation, likewise. Default 1.

    Returns:
        Observations [T + 1, ...] as ``"observation/KEY"``; every other entry [T, ...] as
        ``"root/KEY"`` or ``"next/KEY"``. They share no memory with the episode.

    Example:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from ibrl_torchrl.episodes import pack_episode
        >>> states = torch.zeros(6, 39)
        >>> step = {"state": states[1:], "reward": torch.zeros(5, 1)}
        >>> episode = TensorDict(
        ...     {"state": states[:-1], "action": torch.zeros(5, 4), "next": step}, batch_size=[5]
        ... )
        >>> {name: tuple(values.shape) for name, values in pack_episode(episode).items()}
        {'observation/state': (6, 39), 'root/action': (5, 4), 'next/reward': (5, 1)}
    """
    all_observations = observation_keys(episode)
    observations = all_observations if keys is None else [*keys]
    excluded = {*observations, NEXT}
    if keys is not None:
        excluded |= {*all_observations, *_OUTCOMES}
    single = unstack_frames(
        episode.select(*observations, *((NEXT, key) for key in observations)),
        frame_stack,
        state_stack,
    )
    packed = {
        f"{_OBSERVATION}{key}": torch.cat([single[key], single[NEXT, key][-1:]])
        for key in observations
    }
    for key, values in episode.items():
        if key not in excluded:
            packed[f"{_ROOT}{key}"] = values.clone()
    for key, values in episode[NEXT].items():
        if key in _OUTCOMES | _REPORTS:
            packed[f"{_NEXT}{key}"] = values.clone()
    return packed


def unpack_episode(
    packed: Mapping[str, Tensor], *, frame_stack: int = 1, state_stack: int = 1
) -> TensorDict:
    """Unpack an episode of :func:`pack_episode`.

    Args:
        packed: tensors by prefixed keys.
        frame_stack: the value with which the episode was packed. Default 1.
        state_stack: likewise. Default 1.

    Returns:
        TensorDict [T], whose observations and next observations share memory.
    """
    root: dict[str, Tensor] = {}
    after: dict[str, Tensor] = {}
    for name, values in packed.items():
        prefix, key = name.split("/", 1)
        if f"{prefix}/" == _OBSERVATION:
            root[key], after[key] = values[:-1], values[1:]
        elif f"{prefix}/" == _ROOT:
            root[key] = values
        else:
            after[key] = values
    length = len(next(iter(after.values())))
    episode = TensorDict({**root, NEXT: TensorDict(after, [length])}, [length])
    stack_frames(episode, frame_stack, state_stack)
    return episode


def stack_frames(episode: TensorDictBase, frames: int, states: int) -> None:
    """Replace each observation of an episode by the last few, in place.

    Before the start, the first image is repeated and states are zero. The numbers are those of
    TorchRL's ``CatFrames`` (``padding="same"`` for images, ``"constant"`` for states), which takes
    some hundred times as long for the images of an episode: 0.6 s instead of 2 ms for 100 images of
    96 x 96 pixels in TorchRL 0.14.1.

    Args:
        episode: TensorDict [T] with single observations.
        frames: images [C, H, W] in an observation.
        states: vectors [n] in any other observation.
    """
    for key in observation_keys(episode):
        is_image = _is_image(episode[key])
        depth = frames if is_image else states
        if depth > 1:
            values = torch.cat([episode[key], episode[NEXT, key][-1:]])  # [T + 1, ...]
            padding = values[:1] if is_image else torch.zeros_like(values[:1])
            padded = torch.cat([padding.expand(depth - 1, *values.shape[1:]), values])
            stacked = torch.cat([padded[i : i + len(values)] for i in range(depth)], dim=1)
            episode[key], episode[NEXT, key] = stacked[:-1], stacked[1:]


def unstack_frames(episode: TensorDictBase, frames: int, states: int) -> TensorDictBase:
    """Episode with the newest observation of each stack alone, the inverse of `stack_frames`."""
    single = episode.copy()
    for key in observation_keys(episode):
        depth = frames if _is_image(episode[key]) else states
        if depth > 1:
            for nested_key in (key, (NEXT, key)):
                values = episode[nested_key]
                single[nested_key] = values[:, -(values.shape[1] // depth) :]
    return single


def _is_image(values: Tensor) -> bool:
    return values.dtype == torch.uint8
