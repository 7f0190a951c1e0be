"""Images of a dataset, as PNG or JPEG files and as H.264 videos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ibrl_torchrl.errors import UsageError, brief

_MAX_PIXELS = 4096 * 4096
_MAX_BYTES = 4 << 30  # of the images of an episode
_CRF = "18"  # constant rate factor of libx264; visually lossless
_KEY_FRAME_EVERY = "2"  # frames, as LeRobot's encoder: random access


def encode_png(image: np.ndarray) -> bytes:
    """PNG file of an image, uint8 [H, W, 3]."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def decode_image(content: bytes, where: str) -> np.ndarray:
    """Decode a PNG or JPEG file to uint8 [H, W, 3].

    Args:
        content: bytes of the file.
        where: dataset and column, for messages.

    Raises:
        UsageError: it is another or a damaged file, or has more than 4096 x 4096 pixels.
    """
    try:
        with Image.open(BytesIO(content), formats=["PNG", "JPEG"]) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels")
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"{where}: an image cannot be decoded ({brief(error)}); fix it") from error


class VideoWriter:
    """H.264 video of images of one size.

    Args:
        path: file to write.
        fps: frames per second.
        height, width: size of the images in pixels, even numbers.
    """

    def __init__(self, path: Path, fps: int, height: int, width: int) -> None:
        import av  # takes 0.2 s

        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"crf": _CRF, "g": _KEY_FRAME_EVERY, "bf": "0"}
        self._container = av.open(str(path), "w", format="mp4")
        self._stream: Any = self._container.add_stream("libx264", rate=fps, options=options)
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, fps)
        self.frames = 0

    def write(self, images: np.ndarray) -> None:
        """Append images, uint8 [T, H, W, 3]."""
        import av

        for image in images:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = self.frames
            frame.time_base = Fraction(1, self._stream.codec_context.rate)
            self._container.mux(self._stream.encode(frame))
            self.frames += 1

    def close(self) -> None:
        """Write what the encoder still has."""
        self._container.mux(self._stream.encode())
        self._container.close()


def read_video(path: Path, start: float, length: int, fps: float) -> np.ndarray:
    """Read consecutive frames of a video.

    The file is read as MP4 alone: FFmpeg takes playlists, which name other files, for videos too.

    Args:
        path: the file.
        start: time of the first frame in seconds.
        length: number of frames T.
        fps: frames per second.

    Returns:
        uint8 [T, H, W, 3].

    Raises:
        UsageError: the file is missing or damaged, its images take more than 4 GiB,
            or it has fewer frames.
    """
    import av

    if not path.is_file():
        raise UsageError(f"{path}: no such video, which the dataset names; copy it again")
    images = []
    with _damage_reported(path), av.open(str(path), format="mp4") as container:
        stream = container.streams.video[0]
        if length * stream.width * stream.height * 3 > _MAX_BYTES:
            raise ValueError(f"{length} images of {stream.width} x {stream.height} pixels")
        if start > 0 and stream.time_base is not None:
            container.seek(int(start / stream.time_base), stream=stream)
        for frame in _from(container.decode(stream), start - 0.5 / fps):
            images.append(frame.to_ndarray(format="rgb24"))
            if len(images) == length:
                return np.stack(images)
    raise UsageError(
        f"{path}: has {len(images)} of {length} frames from {start:g} s on; copy it again"
    )


def _from(frames: Iterator[Any], time: float) -> Iterator[Any]:
    """Frames that begin at a time or later."""
    return (frame for frame in frames if frame.time is not None and frame.time >= time)


@contextmanager
def _damage_reported(path: Path) -> Iterator[None]:
    from av import FFmpegError

    try:
        yield
    except (FFmpegError, IndexError, ValueError, OverflowError, MemoryError) as error:
        raise UsageError(f"{path}: not a readable video ({brief(error)}); copy it again") from error
