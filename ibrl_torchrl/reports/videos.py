"""Videos of runs for the page, which links to them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from ibrl_torchrl.reports.comparison import Comparison
from ibrl_torchrl.reports.links import relative_url
from ibrl_torchrl.runs.names import VIDEO


class LinkedVideo(NamedTuple):
    """Video of a run.

    Attributes:
        heading: method and seed of the run.
        url: relative URL of the file.
    """

    heading: str
    url: str


def linked_videos(comparison: Comparison, page_folder: Path) -> list[list[LinkedVideo]]:
    """Videos side by side: for each seed, in ascending order, those of all methods.

    Runs of one seed share demonstrations and imitation policies where ``ibrl bench`` made them.
    Runs without a video are left out.

    Args:
        comparison: runs whose videos are shown.
        page_folder: folder of the page, from which URLs lead to the run folders.
    """
    videos: dict[int, list[LinkedVideo]] = defaultdict(list)
    for method, runs in comparison.methods.items():
        for run in runs:
            if (file := run.path / VIDEO).is_file():
                video = LinkedVideo(f"{method}, seed {run.seed}", relative_url(file, page_folder))
                videos[run.seed].append(video)
    return [videos[seed] for seed in sorted(videos)]
