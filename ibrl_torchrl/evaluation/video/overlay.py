"""What is drawn on the frames of a video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]


# Told apart by colour-blind eyes too (Okabe and Ito); dark letters are readable on all of them.
BLUE, ORANGE, GREEN, GREY = (86, 180, 233), (240, 165, 20), (70, 205, 130), (190, 190, 190)


DARK, TRACK, DIM, WHITE = (18, 20, 24), (58, 62, 70), (160, 164, 170), (250, 250, 250)


COLOURS = (BLUE, ORANGE, GREEN, GREY, DARK, TRACK, DIM, WHITE)


@dataclass(frozen=True)
class ValueBar:
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
    bars: tuple[ValueBar, ...] = ()


def annotate(picture: np.ndarray, caption: Caption) -> Image.Image:
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
    bar: ValueBar,
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
    draw.text((right, middle), format_value(bar.value), WHITE if bar.bright else DIM, anchor="rm")


def format_value(value: float) -> str:
    """Three decimals, or fewer where they would not fit six characters."""
    exact = f"{value:.3f}"
    return exact if len(exact) <= 6 else f"{value:.2g}"
