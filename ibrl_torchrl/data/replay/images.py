"""Deduplicated image storage for replay buffers.

A plain buffer stores the images of s and of s', with a frame stack of k every frame 2 k times. Here
each frame of an episode is written to a pool once, and transitions refer to frames by index.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs.transforms import Transform

from ibrl_torchrl import keys
from ibrl_torchrl.data.replay.one_episode import not_one_episode
from ibrl_torchrl.files import full_disk_reported, reserve

# Columns that replace the images in the storage, of s at the root and of s' under "next". The
# transform adds them on write and removes them on read.
_FRAME = "frame"  # index of the observation's newest frame, counted from the first episode
_EARLIER = "earlier_frames"  # number of frames of its episode before that one
INDEX_BYTES = 4 * 8  # both columns of both observations of a transition, int64

SHORTEST_TRUNCATED = 10  # minimum length of a truncated episode and of a part of one, in steps


def pool_size(capacity: int, frame_stack: int = 1, *, parts: bool = False) -> int:
    """Return the maximum number of frames of a camera that stored transitions refer to.

    Args:
        capacity: maximum number of transitions.
        frame_stack: frames in an observation, default 1.
        parts: episodes may be parts of longer ones. Default False.
    """
    # Each transition has one frame, that of s, and a truncated episode has one more, its last
    # observation. Such episodes have at least 10 steps and only the oldest can have lost some of
    # its transitions, so at most 1 + (capacity - 1) // 10 of them end in the storage. The oldest
    # transition's stack reaches frame_stack - 1 frames further back. A part of an episode, of as
    # many steps, has the frame_stack - 1 frames before it, too.
    extra = frame_stack if parts else 1
    return capacity + extra * (1 + (capacity - 1) // SHORTEST_TRUNCATED) + frame_stack - 1


class DeduplicateImages(Transform):
    """Write- and read-side transform that stores each camera frame once, in a frame pool.

    It comes before ``EpisodeToTransitions`` in a ``Compose``, whose inverse runs from the last to
    the first::

        Compose(
            DeduplicateImages(["corner2_image"], capacity=100_000),
            EpisodeToTransitions(["proprio", "corner2_image"]),
        )

    On write, the images of one complete episode, uint8 [T, frame_stack * C, H, W] with the newest
    frame last, are replaced by two int64 columns [T, 1] for s and for s'. The frames are written to
    a ring buffer, where the newest overwrite the oldest as transitions do in the storage. On read,
    the images [B, frame_stack * C, H, W] are gathered from it. They equal the written ones with one
    exception: the observation after a terminated episode is not stored, and s' is the episode's
    last stored frame instead. No target bootstraps from it.

    The pool is part of ``state_dict``, hence of a buffer's ``dumps`` and ``loads``. A transform
    belongs to one buffer, and to one process: buffers that several processes write to are refused.

    Args:
        image_keys: keys of the images.
        capacity: capacity of the buffer, in transitions.
        frame_stack: frames in an observation, default 1. At an episode's start the first frame is
            repeated, as by ``CatFrames(padding="same")``.
        parts: episodes may be parts of longer ones
            (:func:`~ibrl_torchrl.episodes.intervened_segments`), whose first stack holds frames
            from before them. Default False.
        storage: ``"memory"`` or ``"memmap"`` (one file per camera under ``scratch_dir``, reserved
            when the first episode is written).
        scratch_dir: folder of the memory map, default a temporary one.
        device: device of the storage ``"memory"``, equal to the buffer's; None (default): the CPU.

    Raises:
        ValueError: at ``extend``, when the data is not one complete episode, is truncated, or a
            part that starts in the midst of one, with fewer than 10 steps, or has images that are
            not uint8 stacks of its frames; the pool is unchanged.
            At ``share``, when several processes are to write to the buffer.
        UsageError: at the first ``extend``, when the disk has no space for the pool.
    """

    def __init__(
        self,
        image_keys: Sequence[str],
        capacity: int,
        *,
        frame_stack: int = 1,
        parts: bool = False,
        storage: Literal["memory", "memmap"] = "memory",
        scratch_dir: str | Path | None = None,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self._image_keys = [*image_keys]
        self._frame_stack = frame_stack
        self._size = pool_size(capacity, frame_stack, parts=parts)
        self._parts = parts
        self._storage = storage
        self._scratch_dir = scratch_dir
        self._device = device
        self._pools: dict[str, Tensor] = {}  # uint8 [size, C, H, W]; frame i lies at i % size
        self._num_written = 0  # frames since the first episode

    @property
    def nbytes(self) -> int:
        """Bytes of the pools; 0 before the first episode, which determines the frame size."""
        return sum(pool.nbytes for pool in self._pools.values())

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Replace frame indices of a sample by images."""
        # Not in place: `buffer[:]` of a full buffer is the storage itself.
        sample = tensordict.exclude(*_columns(_FRAME, _EARLIER))
        for frame, earlier in zip(_columns(_FRAME), _columns(_EARLIER), strict=True):
            index, num_earlier = tensordict[frame], tensordict[earlier]
            for key in self._image_keys:
                images = self._gather_stacks(self._pools[key], index, num_earlier)
                sample.set((*frame[:-1], key), images)
        return sample

    def share_memory_(self) -> None:
        """Refuse a buffer that several processes write to; called by ``ReplayBuffer.share``.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "DeduplicateImages keeps its frame pool in one process; collect in the learner's "
            "process or leave DeduplicateImages out"
        )

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        length = len(tensordict)
        done = tensordict[keys.NEXT, keys.DONE]
        start = torch.arange(length, device=done.device)[:, None]
        end = start + tensordict[keys.STEPS_TO_NEXT_OBS].reshape(-1, 1)
        if int(end.max()) > length:
            raise ValueError(
                f"DeduplicateImages takes rows of one environment step, but {length} rows span "
                f"{int(end.max())} steps; leave it out for action chunks"
            )
        if not torch.equal(done, end == length):
            raise not_one_episode(self)
        for key in self._image_keys:
            self._require_stacks(key, tensordict[key])
        truncated = not bool(tensordict[keys.NEXT, keys.TERMINATED][-1])
        num_before = self._num_before(tensordict)
        if (truncated or num_before) and length < SHORTEST_TRUNCATED:
            raise ValueError(
                f"an episode was truncated after {length} steps, DeduplicateImages needs at least "
                f"{SHORTEST_TRUNCATED}; raise the horizon or leave DeduplicateImages out"
            )

        frames_by_key = {
            key: self._frames(key, tensordict, truncated, num_before) for key in self._image_keys
        }
        for key, frames in frames_by_key.items():
            self._write(key, frames)
        transitions = tensordict.exclude(*_columns(*self._image_keys))
        # The observation after success has no frame; the episode's last frame replaces it.
        positions = (start, end.clamp(max=length - 1 + truncated))
        columns = zip(_columns(_FRAME), _columns(_EARLIER), positions, strict=True)
        for frame, earlier, position in columns:
            transitions.set(frame, self._num_written + num_before + position)
            transitions.set(earlier, num_before + position)
        self._num_written += num_before + length + truncated
        return transitions

    def _require_stacks(self, key: str, images: Tensor) -> None:
        """Refuse images that are no stacks of so many frames."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] % self._frame_stack:
            raise ValueError(
                f"{key} must be uint8 [T, {self._frame_stack} * C, H, W], "
                f"not {images.dtype} {[*images.shape]}"
            )

    def _num_before(self, tensordict: TensorDictBase) -> int:
        """Frames before the first observation's newest one: 0 at the start of an episode."""
        if not self._parts:
            return 0
        first = [tensordict[key][0] for key in self._image_keys]
        stacks = [images.unflatten(0, (self._frame_stack, -1)) for images in first]
        is_start = all(bool((stack == stack[-1:]).all()) for stack in stacks)
        return 0 if is_start else self._frame_stack - 1

    def _frames(
        self, key: str, tensordict: TensorDictBase, truncated: bool, num_before: int
    ) -> Tensor:
        """Frames of an episode: those before it, [T, C, H, W] of uint8, and one if truncated."""
        images = tensordict[key]
        channels = images.shape[1] // self._frame_stack
        before = images[0].unflatten(0, (-1, channels))[:num_before]
        frames = torch.cat([before, images[:, -channels:]])
        if key in self._pools and self._pools[key].shape[1:] != frames.shape[1:]:
            raise ValueError(
                f"{key} has frames of shape {[*frames.shape[1:]]}, "
                f"earlier episodes had {[*self._pools[key].shape[1:]]}; use one image size"
            )
        # Otherwise a stack in another order would silently be read back in this one.
        position = torch.arange(num_before, len(frames), device=frames.device)[:, None]
        if self._frame_stack > 1 and not torch.equal(
            self._gather_stacks(frames, position, position), images
        ):
            raise ValueError(
                f"{key} does not stack the episode's last {self._frame_stack} frames, newest last, "
                "with its first frame repeated at the start; use CatFrames with padding='same'"
            )
        if truncated:
            frames = torch.cat([frames, tensordict[keys.NEXT, key][-1:, -channels:]])
        return frames

    def _gather_stacks(self, frames: Tensor, index: Tensor, num_earlier: Tensor) -> Tensor:
        """Images [*, frame_stack * C, H, W] whose newest frames are ``index``, int64 [*, 1]."""
        offsets = torch.arange(self._frame_stack - 1, -1, -1, device=index.device)
        slots = (index - torch.minimum(offsets, num_earlier)) % len(frames)
        stacks = frames.index_select(0, slots.flatten())
        return stacks.view(*index.shape[:-1], -1, *frames.shape[2:])

    def _write(self, key: str, frames: Tensor) -> None:
        if key not in self._pools:
            self._pools[key] = self._allocate(key, frames.shape[1:])
        pool = self._pools[key]
        frames = frames.to(pool.device)
        slots = (self._num_written + torch.arange(len(frames), device=pool.device)) % self._size
        # Only the end of an episode longer than the buffer remains, as in the storage.
        pool.index_copy_(0, slots[-self._size :], frames[-self._size :])

    def _allocate(self, key: str, frame: Sequence[int]) -> Tensor:
        """Pool for frames [C, H, W]; memory is allocated as frames are written, disk reserved."""
        shape = (self._size, *frame)
        if self._storage == "memory":
            return torch.empty(shape, dtype=torch.uint8, device=self._device)
        if self._scratch_dir is None:
            self._temporary = TemporaryDirectory(prefix="ibrl_frames_")  # removed with this object
            self._scratch_dir = self._temporary.name
        path = Path(self._scratch_dir) / f"{key}_frames.memmap"
        path.parent.mkdir(parents=True, exist_ok=True)
        with full_disk_reported(path.parent):
            reserve(path, math.prod(shape))
        flat = torch.from_file(str(path), shared=True, size=math.prod(shape), dtype=torch.uint8)
        return flat.view(shape)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the filled part of the pools, for ``state_dict``; once full, the pools."""
        full = self._num_written >= self._size
        # The clone: serializing a slice would write the whole pool.
        frames = {
            key: pool if full else pool[: self._num_written].clone()
            for key, pool in self._pools.items()
        }
        return {"size": self._size, "written": self._num_written, "frames": frames}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Load what ``get_extra_state`` returned.

        Raises:
            ValueError: the state is of a buffer of another capacity or frame stack.
        """
        if state["size"] != self._size:
            raise ValueError(
                f"the saved pool has {state['size']} frames, this one has {self._size}; "
                "use the capacity and frame_stack it was saved with"
            )
        self._num_written = state["written"]
        for key, frames in state["frames"].items():
            if key not in self._pools:
                self._pools[key] = self._allocate(key, frames.shape[1:])
            self._pools[key][: len(frames)] = frames


def _columns(*names: str) -> list[tuple[str, ...]]:
    """Keys of s and of s' for each name."""
    return [key for name in names for key in ((name,), (keys.NEXT, name))]
