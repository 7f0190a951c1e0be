"""Films for people: what is drawn on each frame, and the files that frames become."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import replacing

FPS = 10
Colour = tuple[int, int, int]
# Told apart by colour-blind eyes too (Okabe and Ito); dark letters are readable on all of them.
BLUE, ORANGE, GREEN, GREY = (86, 180, 233), (240, 165, 20), (70, 205, 130), (190, 190, 190)
DARK, TRACK, DIM, WHITE = (18, 20, 24), (58, 62, 70), (160, 164, 170), (250, 250, 250)
COLOURS = (BLUE, ORANGE, GREEN, GREY, DARK, TRACK, DIM, WHITE)


@dataclass(frozen=True)
class Bar:
    """A value that belongs in [0, 1], as a bar and a number.

    Attributes:
        name: what has the value.
        colour: of the bar.
        value: the bar ends at 0 and 1, the number does not; None leaves both out.
        bright: draw the name in white, otherwise dimmed.
    """

    name: str
    colour: Colour
    value: float | None = None
    bright: bool = False


@dataclass(frozen=True)
class Caption:
    """What a frame says.

    Attributes:
        title: lower left; the frame's number is to its right.
        frame: number of the frame.
        label: in the picture's upper left corner, in the border's colour.
        colour: of the border.
        bars: below the title; equally many in all frames of a film.
    """

    title: str
    frame: int
    label: str
    colour: Colour
    bars: tuple[Bar, ...] = ()


def mark(picture: np.ndarray, caption: Caption) -> Image.Image:
    """Put a caption on and below a picture.

    Args:
        picture: uint8 [S, S, 3], S even, at least 160 if there are bars.
        caption: what to write.

    Returns:
        An image as wide as the picture, higher by one line and one for each bar.
    """
    size = len(picture)
    letters = max(11, size // 20)
    line = 2 * round(0.8 * letters)  # even, as videos need it
    image = Image.new("RGB", (size, size + line * (1 + len(caption.bars)) + 4), DARK)
    image.paste(Image.fromarray(picture))
    draw = ImageDraw.Draw(image)
    draw.font = ImageFont.load_default(letters)
    draw.rectangle((0, 0, size - 1, size - 1), outline=caption.colour, width=size // 48)
    draw.rectangle((0, 0, draw.textlength(caption.label) + 2 * letters, line), caption.colour)
    draw.text((letters, line / 2), caption.label, DARK, anchor="lm")
    left, right, middle = letters / 2, size - letters / 2, size + 2 + line / 2
    draw.text((left, middle), caption.title, WHITE, anchor="lm")
    draw.text((right, middle), f"frame {caption.frame}", WHITE, anchor="rm")
    names = max((draw.textlength(bar.name) for bar in caption.bars), default=0)
    span = (left + names + letters / 2, right - draw.textlength("-0.000") - letters / 2)
    for row, bar in enumerate(caption.bars, start=1):
        _draw_bar(draw, bar, middle + row * line, left, span, right)
    return image


def _draw_bar(
    draw: ImageDraw.ImageDraw,
    bar: Bar,
    middle: float,
    left: float,
    span: tuple[float, float],
    right: float,
) -> None:
    """Name at ``left``, bar within ``span``, number up to ``right``, all around ``middle``."""
    draw.text((left, middle), bar.name, WHITE if bar.bright else DIM, anchor="lm")
    start, end = span
    thickness = draw.font.size / 4
    draw.rectangle((start, middle - thickness, end, middle + thickness), TRACK)
    if bar.value is None:
        return
    length = (end - start) * min(max(bar.value, 0.0), 1.0)
    if length >= 1:
        draw.rectangle((start, middle - thickness, start + length, middle + thickness), bar.colour)
    draw.text((right, middle), number(bar.value), WHITE if bar.bright else DIM, anchor="rm")


def number(value: float) -> str:
    """Three decimals, or fewer where they would not fit six characters."""
    exact = f"{value:.3f}"
    return exact if len(exact) <= 6 else f"{value:.2g}"


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


def chosen_file(video: bool | str | None, default: Path) -> Path | None:
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


def picture_size(path: Path) -> int:
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
    with replacing(path) as unfinished:
        FORMATS[path.suffix].write(unfinished, frames)
