"""Annotation of video frames: caption, border, and bars of critic values."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

# After Okabe and Ito's palette for colour-blind viewers, lightened so that dark text is legible.
BLUE, ORANGE, PURPLE = (86, 180, 233), (240, 165, 20), (204, 121, 167)
YELLOW, VERMILION, INDIGO = (240, 228, 66), (226, 106, 50), (72, 130, 220)
GREEN, GREY = (70, 205, 130), (190, 190, 190)
PROPOSAL_COLOURS = (BLUE, ORANGE, PURPLE, YELLOW, VERMILION, INDIGO)

DARK, TRACK, DIM, WHITE = (18, 20, 24), (58, 62, 70), (160, 164, 170), (250, 250, 250)

COLOURS = (*PROPOSAL_COLOURS, GREEN, GREY, DARK, TRACK, DIM, WHITE)


def proposal_colour(index: int) -> Colour:
    """Colour of a proposal by its index; colours repeat after the sixth."""
    return PROPOSAL_COLOURS[index % len(PROPOSAL_COLOURS)]


@dataclass(frozen=True)
class ValueBar:
    """Bar and number of a value that is expected in [0, 1].

    Attributes:
        name: label to the left of the bar.
        colour: colour of the bar.
        value: length of the bar, clipped to [0, 1], and number to its right, not clipped; None
            draws neither.
        bright: draw the text in white, otherwise in grey.
    """

    name: str
    colour: Colour
    value: float | None = None
    bright: bool = False


@dataclass(frozen=True)
class Caption:
    """Annotation of one frame.

    Attributes:
        title: text below the image on the left; the frame's number is on the right.
        frame: number of the frame.
        label: text in the image's upper left corner, on the border's colour.
        colour: colour of the border.
        bars: bars below the title; the same number in all frames of a video.
    """

    title: str
    frame: int
    label: str
    colour: Colour
    bars: tuple[ValueBar, ...] = ()


def annotate(rendered: np.ndarray, caption: Caption) -> Image.Image:
    """Draw a caption on and below a rendered image.

    Args:
        rendered: uint8 [S, S, 3], S even, at least 160 if there are bars.
        caption: annotation to draw.

    Returns:
        RGB image of width S, higher than S by one line and one line a bar; the height is even.
    """
    size = len(rendered)
    font_size = max(11, size // 20)
    line = 2 * round(0.8 * font_size)  # even, as 4:2:0 chroma subsampling requires
    image = Image.new("RGB", (size, size + line * (1 + len(caption.bars)) + 4), DARK)
    image.paste(Image.fromarray(rendered))
    draw = ImageDraw.Draw(image)
    draw.font = ImageFont.load_default(font_size)
    draw.rectangle((0, 0, size - 1, size - 1), outline=caption.colour, width=size // 48)
    draw.rectangle((0, 0, draw.textlength(caption.label) + 2 * font_size, line), caption.colour)
    draw.text((font_size, line / 2), caption.label, DARK, anchor="lm")
    left, right, middle = font_size / 2, size - font_size / 2, size + 2 + line / 2
    draw.text((left, middle), caption.title, WHITE, anchor="lm")
    draw.text((right, middle), f"frame {caption.frame}", WHITE, anchor="rm")
    bars = [replace(bar, name=_shorten(draw, bar.name, size / 2)) for bar in caption.bars]
    names = max((draw.textlength(bar.name) for bar in bars), default=0)
    span = (left + names + font_size / 2, right - draw.textlength("-0.000") - font_size / 2)
    for row, bar in enumerate(bars, start=1):
        _draw_bar(draw, bar, middle + row * line, left, span, right, font_size / 4)
    return image


def _shorten(draw: ImageDraw.ImageDraw, text: str, width: float) -> str:
    """Text that fits a width in pixels, cut with an ellipsis if necessary."""
    cut = text
    while draw.textlength(cut) > width:
        text = text[:-1]
        cut = f"{text}..."
    return cut


def _draw_bar(
    draw: ImageDraw.ImageDraw,
    bar: ValueBar,
    middle: float,
    left: float,
    span: tuple[float, float],
    right: float,
    thickness: float,
) -> None:
    """Draw a name from ``left``, a bar within ``span``, and a number up to ``right``."""
    text_colour = WHITE if bar.bright else DIM
    draw.text((left, middle), bar.name, text_colour, anchor="lm")
    start, end = span
    draw.rectangle((start, middle - thickness, end, middle + thickness), TRACK)
    if bar.value is None:
        return
    length = (end - start) * min(max(bar.value, 0.0), 1.0)
    if length >= 1:
        draw.rectangle((start, middle - thickness, start + length, middle + thickness), bar.colour)
    draw.text((right, middle), format_value(bar.value), text_colour, anchor="rm")


def format_value(value: float) -> str:
    """Number with three decimals, or two significant digits if that exceeds six characters."""
    text = f"{value:.3f}"
    return text if len(text) <= 6 else f"{value:.2g}"
