"""Video files in MP4 and GIF format."""

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
GIF_COLOURS = 128


def _write_mp4(path: Path, frames: Iterable[Image.Image]) -> None:
    # The temporary file has no suffix that names the container. Every browser decodes H.264 4:2:0.
    with iio.imopen(path, "w", plugin="pyav", container="mp4") as file:
        file.init_video_stream("libx264", fps=FPS, pixel_format="yuv420p")
        for frame in frames:
            file.write_frame(np.asarray(frame))


def _write_gif(path: Path, frames: Iterable[Image.Image]) -> None:
    images = [*frames]
    # One palette for all frames keeps static regions identical, and so the file small. It contains
    # the overlay's colours, however few frames show them.
    sample = images[:: max(1, len(images) // 8)]
    sheet = np.concatenate([np.asarray(image) for image in sample])
    quantized = Image.fromarray(sheet).quantize(GIF_COLOURS - len(COLOURS))
    palette = Image.new("P", (1, 1))
    palette.putpalette(
        [*(channel for colour in COLOURS for channel in colour), *(quantized.getpalette() or [])]
    )
    first, *rest = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    duration = 1000 // FPS
    first.save(path, "GIF", save_all=True, append_images=rest, duration=duration, loop=0)


@dataclass(frozen=True)
class Format:
    """Video file format.

    Attributes:
        size: height and width of the rendered image in pixels.
        write: writes frames to a file.
    """

    size: int
    write: Callable[[Path, Iterable[Image.Image]], None]


FORMATS = {".mp4": Format(384, _write_mp4), ".gif": Format(192, _write_gif)}


def video_path(video: bool | str | None, default: Path) -> Path | None:
    """Path of the video that the setting ``video`` requests.

    Args:
        video: a path; True for ``default``; False or None for no video.
        default: path of the video if the setting names none.

    Raises:
        UsageError: the suffix is neither .mp4 nor .gif, or the folder does not exist.
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
    """Height and width in pixels at which to render images for a video file."""
    return FORMATS[path.suffix].size


def save_video(path: Path, frames: Iterable[Image.Image]) -> None:
    """Write a video at ``FPS`` frames per second; the file appears only when it is complete.

    Args:
        path: file that ends in .mp4 (H.264) or .gif (animated); an existing file is replaced.
        frames: at least one RGB image, all of the same size with even height and width; may be a
            generator.

    Raises:
        UsageError: the folder cannot be written to.
    """
    with atomic_path(path) as temporary:
        FORMATS[path.suffix].write(temporary, frames)
