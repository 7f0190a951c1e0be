"""``ibrl demos``: record scripted demonstrations."""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.data import load_demos
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.training.config import DemosRunConfig
from ibrl_torchrl.training.filming import film_demos
from ibrl_torchrl.training.prepare import record_to
from ibrl_torchrl.training.progress import bar, say
from ibrl_torchrl.training.replaying import open_source
from ibrl_torchrl.training.video import chosen_file, picture_size, save_video


def run(config: DemosRunConfig) -> None:
    """Record successful episodes to ``out``, print what they are, and film them for ``video``.

    Raises:
        UsageError: the file exists or cannot be written, or the expert succeeds too rarely.
    """
    path = Path(config.out)
    if path.exists():
        raise UsageError(f"{path}: exists already; choose another out=")
    video = chosen_file(config.video, path.with_suffix(".mp4"))
    try:
        record_to(path, config.demos, config.task)
    except OSError as error:
        raise UsageError(f"{path}: cannot write here ({error.strerror})") from error
    summary = load_demos(path).summary()
    say(
        f"{path}: {summary['episodes']} episodes, {summary['transitions']} transitions, "
        f"length {summary['length_min']} to {summary['length_max']} "
        f"(mean {summary['length_mean']:.1f}), success {summary['success_rate']:.2f}"
    )
    if video is not None:
        # What policies see is not what is shown.
        frames = film_demos(open_source(path, cameras=[]), picture_size(video))
        save_video(video, bar(frames, desc="video", unit="frame", leave=False))
        say(f"video: {video}")
