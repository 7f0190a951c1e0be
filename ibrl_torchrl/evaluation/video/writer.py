"""Films for people: what is drawn on each frame, and the files that frames become."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.evaluation.video.overlay import COLOURS
from ibrl_torchrl.files import atomic_path

FPS = 10


def _write_mp4(path: Path, frames: Iterable[Image.Image]) -> None:
    # The temporary name says nothing of the format. H.264 in 4:2:0 is what every browser plays.
    with iio.imopen(path, "w", plugin="pyav", container="mp4") as file:
        file.init_video_stream("libx264", fps=FPS, pixel_format="yuv420p")
        for frame in frames:
            file.write_frame(np.asarray(frame))


def _write_gif(path: Path, frames: Iterable[Image.Image]) -> None:
    frames = [*frames]
    # One palette for all frames keeps what does not move the same, and so the file small; the
    # markings' own colours are in it, however few frames show them.
    some = frames[:: max(1, len(frames) // 8)]
    sheet = np.concatenate([np.asarray(frame) for frame in some])
    seen = Image.fromarray(sheet).quantize(GIF_COLOURS - len(COLOURS)).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette([*(part for colour in COLOURS for part in colour), *seen])
    first, *rest = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    duration = 1000 // FPS
    first.save(path, "GIF", save_all=True, append_images=rest, duration=duration, loop=0)


GIF_COLOURS = 128


@dataclass(frozen=True)
class Format:
    """A kind of film: the pictures' height and width in pixels, and what writes it."""

    size: int
    write: Callable[[Path, Iterable[Image.Image]], None]


FORMATS = {".mp4": Format(384, _write_mp4), ".gif": Format(192, _write_gif)}


def video_path(video: bool | str | None, default: Path) -> Path | None:
    """The file that the setting ``video`` asks for.

    Args:
        video: a path; True for ``default``; False or None for none.
        default: where the film goes unless told otherwise.

    Raises:
        UsageError: it ends in neither .mp4 nor .gif, or its folder does not exist.
    """
    if video is None or video is False:
        return None
    path = default if video is True else Path(video)
    if path.suffix not in FORMATS:
        raise UsageError(f"video={path}: must end in {' or '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise UsageError(f"video={path}: there is no such folder")
    return path


def frame_size(path: Path) -> int:
    """Height and width that pictures for a film in this file should have."""
    return FORMATS[path.suffix].size


def save_video(path: Path, frames: Iterable[Image.Image]) -> None:
    """Write a film at ``FPS`` frames a second; the file appears only once it is complete.

    Args:
        path: an .mp4 (H.264) or an animated .gif; an existing file is replaced.
        frames: at least one, all of one size, both sides even; a generator will do.

    Raises:
        UsageError: the folder cannot be written to.
    """
    with atomic_path(path) as unfinished:
        FORMATS[path.suffix].write(unfinished, frames)
