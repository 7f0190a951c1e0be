"""Image replay that stores each camera frame once.

A plain buffer holds the images of s and of s', and with a frame stack of k every frame 2 k times.
Here each frame of an episode is written once, and a transition refers to frames by their numbers.
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

# What stands in the storage in place of the images, of s at the root and of s' under "next". No
# other part sees these columns: they are made on the way in and dropped on the way out.
_FRAME = "frame"  # number of the observation's newest frame, counted from the first episode
_EARLIER = "earlier_frames"  # how many frames of its episode lie before that one
INDEX_BYTES = 4 * 8  # of both columns of both observations of a transition, int64

SHORTEST_TRUNCATED = 10


def pool_size(capacity: int, frame_stack: int = 1) -> int:
    """Frames that ``capacity`` transitions can refer to, of each camera."""
    # Every transition has a frame of its own, that of s, and a truncated episode has one more, its
    # last observation. As such episodes have at least 10 steps, and only the oldest can have lost
    # some of its transitions, at most 1 + (capacity - 1) // 10 of them end among those kept. The
    # oldest transition's stack reaches frame_stack - 1 frames further back.
    return capacity + 1 + (capacity - 1) // SHORTEST_TRUNCATED + frame_stack - 1


class DeduplicateImages(Transform):
    """Write- and read-side transform: images to numbers of frames and back.

    It goes outside of ``EpisodeToTransitions``, as the inverse transforms run in reverse order::

        Compose(
            StoreFramesOnce(["corner2_image"], capacity=100_000),
            EpisodeToTransitions(["proprio", "corner2_image"]),
        )

    On the way in, the images of one complete episode, uint8 [T, frame_stack * C, H, W] with the
    newest frame last, become two int64 columns [T, 1] for s and for s'; the frames go to a pool, a
    ring in which the newest overwrite the oldest, as transitions do in the buffer. On the way out,
    the images [B, frame_stack * C, H, W] are gathered from the pool. They are those that went in,
    with one exception: the observation after a terminated episode is not stored, and s' shows the
    episode's last stored frame instead. No target bootstraps from there.

    The pool is part of ``state_dict``, so a buffer's ``dumps`` and ``loads`` cover it. A transform
    serves one buffer.

    Args:
        image_keys: keys of the images.
        capacity: that of the buffer, in transitions.
        frame_stack: frames in an observation, default 1. At an episode's start the first frame is
            repeated, as ``CatFrames(padding="same")`` does.
        storage: ``"memory"`` or ``"memmap"`` (a file a camera under ``scratch_dir``).
        scratch_dir: folder of the memory map, default a temporary one.

    Raises:
        ValueError: when an episode comes that is not one complete episode, is truncated before
            step 10, or has images that are not uint8 stacks of its own frames. The pool is then as
            before.
    """

    def __init__(
        self,
        image_keys: Sequence[str],
        capacity: int,
        *,
        frame_stack: int = 1,
        storage: Literal["memory", "memmap"] = "memory",
        scratch_dir: str | Path | None = None,
    ) -> None:
        super().__init__()
        self._image_keys = [*image_keys]
        self._frame_stack = frame_stack
        self._size = pool_size(capacity, frame_stack)
        self._storage = storage
        self._scratch_dir = scratch_dir
        self._pools: dict[str, Tensor] = {}  # uint8 [size, C, H, W]; frame i lies at i % size
        self._written = 0  # frames since the first episode

    @property
    def nbytes(self) -> int:
        """Bytes of the pools; 0 before the first episode, which tells the size of a frame."""
        return sum(pool.nbytes for pool in self._pools.values())

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Give samples their images back."""
        # Not in place: all of a full buffer, `buffer[:]`, is the storage itself.
        sample = tensordict.exclude(*_columns(_FRAME, _EARLIER))
        for frame, earlier in zip(_columns(_FRAME), _columns(_EARLIER), strict=True):
            number, before = tensordict[frame], tensordict[earlier]
            for key in self._image_keys:
                sample.set((*frame[:-1], key), self._stacks(self._pools[key], number, before))
        return sample

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        length = len(tensordict)
        start = torch.arange(length)[:, None]
        end = start + tensordict[keys.STEPS_TO_NEXT_OBS].reshape(-1, 1)
        if not torch.equal(tensordict[keys.NEXT, keys.DONE], end == length):
            raise ValueError("frames are stored one complete episode at a time")
        truncated = not bool(tensordict[keys.NEXT, keys.TERMINATED][-1])
        if truncated and length < SHORTEST_TRUNCATED:
            raise ValueError(
                f"an episode was truncated after {length} steps, but frames are stored once only "
                f"if truncated episodes have at least {SHORTEST_TRUNCATED}; raise the horizon or "
                "leave StoreFramesOnce out"
            )

        episode = {key: self._frames(key, tensordict, truncated) for key in self._image_keys}
        for key, frames in episode.items():
            self._write(key, frames)
        transitions = tensordict.exclude(*_columns(*self._image_keys))
        # The observation after success has no frame: the last one that has stands for it.
        positions = (start, end.clamp(max=length - 1 + truncated))
        columns = zip(_columns(_FRAME), _columns(_EARLIER), positions, strict=True)
        for frame, earlier, position in columns:
            transitions.set(frame, self._written + position)
            transitions.set(earlier, position)
        self._written += length + truncated
        return transitions

    def _frames(self, key: str, tensordict: TensorDictBase, truncated: bool) -> Tensor:
        """The frames of an episode, uint8 [T, C, H, W] or, if it was truncated, [T + 1, ...]."""
        images = tensordict[key]
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] % self._frame_stack:
            raise ValueError(
                f"{key} must be uint8 [T, {self._frame_stack} * C, H, W], "
                f"not {images.dtype} {[*images.shape]}"
            )
        channels = images.shape[1] // self._frame_stack
        frames = images[:, -channels:]
        if key in self._pools and self._pools[key].shape[1:] != frames.shape[1:]:
            raise ValueError(
                f"{key} has frames of shape {[*frames.shape[1:]]}, "
                f"those before had {[*self._pools[key].shape[1:]]}"
            )
        # Otherwise a stack in another order would silently come back in this one.
        position = torch.arange(len(frames))[:, None]
        if self._frame_stack > 1 and not torch.equal(
            self._stacks(frames, position, position), images
        ):
            raise ValueError(
                f"{key} does not stack the episode's last {self._frame_stack} frames, newest last, "
                "with its first frame repeated at the start"
            )
        if truncated:
            frames = torch.cat([frames, tensordict[keys.NEXT, key][-1:, -channels:]])
        return frames

    def _stacks(self, frames: Tensor, number: Tensor, earlier: Tensor) -> Tensor:
        """The images [*, frame_stack * C, H, W] that end with frames ``number``, int64 [*, 1]."""
        back = torch.arange(self._frame_stack - 1, -1, -1)
        slots = (number - torch.minimum(back, earlier)) % len(frames)
        chosen = frames.index_select(0, slots.flatten())
        return chosen.view(*number.shape[:-1], -1, *frames.shape[2:])

    def _write(self, key: str, frames: Tensor) -> None:
        if key not in self._pools:
            self._pools[key] = self._allocate(key, frames.shape[1:])
        slots = (self._written + torch.arange(len(frames))) % self._size
        # Of an episode longer than the buffer only the end remains, as in the buffer.
        self._pools[key].index_copy_(0, slots[-self._size :], frames[-self._size :])

    def _allocate(self, key: str, frame: Sequence[int]) -> Tensor:
        """A pool for frames [C, H, W]. Memory or disk is used up only as frames arrive."""
        shape = (self._size, *frame)
        if self._storage == "memory":
            return torch.empty(shape, dtype=torch.uint8)
        if self._scratch_dir is None:
            self._temporary = TemporaryDirectory(prefix="ibrl_frames_")  # gone with this object
            self._scratch_dir = self._temporary.name
        path = Path(self._scratch_dir) / f"{key}_frames.memmap"
        path.parent.mkdir(parents=True, exist_ok=True)
        flat = torch.from_file(str(path), shared=True, size=math.prod(shape), dtype=torch.uint8)
        return flat.view(shape)

    def get_extra_state(self) -> dict[str, Any]:
        """The filled part of the pools, for ``state_dict``; once full, the pools themselves."""
        full = self._written >= self._size
        # A slice would bring the whole pool into the file.
        frames = {k: p if full else p[: self._written].clone() for k, p in self._pools.items()}
        return {"size": self._size, "written": self._written, "frames": frames}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take what ``get_extra_state`` gave.

        Raises:
            ValueError: it comes from a buffer of another capacity or frame stack.
        """
        if state["size"] != self._size:
            raise ValueError(
                f"the saved pool is for {state['size']} frames, this one for {self._size}; "
                "use the capacity and frame_stack it was saved with"
            )
        self._written = state["written"]
        for key, frames in state["frames"].items():
            if key not in self._pools:
                self._pools[key] = self._allocate(key, frames.shape[1:])
            self._pools[key][: len(frames)] = frames


def _columns(*names: str) -> list[tuple[str, ...]]:
    """The keys of s and of s' for each name."""
    return [key for name in names for key in ((name,), (keys.NEXT, name))]
