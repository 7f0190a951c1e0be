"""Videos of runs for the page."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import NamedTuple

from ibrl_torchrl.reports.comparison import Comparison
from ibrl_torchrl.runs.names import VIDEO
from ibrl_torchrl.runs.reader import Run

MAX_VIDEO_BYTES = 5_000_000  # larger videos are not embedded


class EmbeddedVideo(NamedTuple):
    """Video of a method.

    Attributes:
        heading: method and seed of the run.
        source: data URL of the file.
        others: number of the method's further runs with a video.
    """

    heading: str
    source: str
    others: int


def embedded_videos(comparison: Comparison) -> list[EmbeddedVideo]:
    """Video of each method's first run that has one; a page with all seeds' would be too large."""
    videos = []
    for method, runs in comparison.methods.items():
        files = [(run, run.path / VIDEO) for run in runs if _is_small(run)]
        if files:
            run, file = files[0]
            videos.append(EmbeddedVideo(f"{method}, seed {run.seed}", _url(file), len(files) - 1))
    return videos


def _is_small(run: Run) -> bool:
    file = run.path / VIDEO
    return file.is_file() and file.stat().st_size <= MAX_VIDEO_BYTES


def _url(file: Path) -> str:
    return f"data:video/mp4;base64,{base64.b64encode(file.read_bytes()).decode()}"
