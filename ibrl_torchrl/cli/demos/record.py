"""``ibrl demos``: recording of scripted demonstrations."""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.config.commands import DemosRunConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.data.demos import load_demos
from ibrl_torchrl.data.demos.playback import open_playback
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.evaluation.video.scenes import demo_frames, require_camera
from ibrl_torchrl.evaluation.video.writer import frame_size, save_video, video_path
from ibrl_torchrl.training.demonstrations import record_to


def run(config: DemosRunConfig) -> None:
    """Record successful episodes to ``out``; print a summary; write a video if ``video`` is set.

    Raises:
        UsageError: the file exists or cannot be written, or too few of the expert's episodes
            succeed.
    """
    path = Path(config.out)
    if path.exists():
        raise UsageError(f"{path}: exists already; choose another out=")
    video = video_path(config.video, path.with_suffix(".mp4"))
    if video is not None:
        require_camera(build_env(config.task), config.video_camera, frame_size(video))
    try:
        record_to(path, config.demos, config.task)
    except OSError as error:
        raise UsageError(f"{path}: cannot write here ({error.strerror})") from error
    summary = load_demos(path).summary()
    echo(
        f"{path}: {summary['episodes']} episodes, {summary['transitions']} transitions, "
        f"length {summary['length_min']} to {summary['length_max']} "
        f"(mean {summary['length_mean']:.1f}), success {summary['success_rate']:.2f}"
    )
    if video is not None:
        # The observations' cameras are not rendered: videos have their own camera and quality.
        frames = demo_frames(
            open_playback(path, cameras=[]), frame_size(video), config.video_camera
        )
        save_video(video, progress_bar(frames, desc="video", unit="frame", leave=False))
        echo(f"video: {video}")
