"""Relative links from the page to run folders and to files in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from ibrl_torchrl.runs.names import CURVE, LOG, VIDEO
from ibrl_torchrl.runs.reader import Run

_FILES = {"curve": CURVE, "video": VIDEO, "log": LOG}


class Link(NamedTuple):
    """Link of the page.

    Attributes:
        text: what is shown.
        url: relative and percent-encoded.
    """

    text: str
    url: str


def run_links(run: Run, page_folder: Path) -> list[Link]:
    """Links to a run's folder and to those of its curve, video and log that exist.

    Args:
        run: run to link to.
        page_folder: folder of the page.
    """
    files = ((text, run.path / name) for text, name in _FILES.items())
    return [
        Link("folder", f"{relative_url(run.path, page_folder)}/"),
        *(Link(text, relative_url(file, page_folder)) for text, file in files if file.is_file()),
    ]


def relative_url(path: Path, folder: Path) -> str:
    """URL of a path relative to a folder: every letter but ``A-Za-z0-9_.-~/`` is percent-encoded.

    Links in paths are kept, so that the URL holds wherever both are reached as they were named.

    Example:
        >>> from pathlib import Path
        >>> from ibrl_torchrl.reports.links import relative_url
        >>> relative_url(Path("runs/100 %/video.mp4"), Path("report"))
        '../runs/100%20%25/video.mp4'
    """
    return quote(os.fsencode(os.path.relpath(path, folder)))
