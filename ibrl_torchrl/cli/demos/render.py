"""``ibrl demos render FILE``: observations and images from recorded simulator states."""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.config.commands import DemosRenderConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.data.demos import save_demos
from ibrl_torchrl.data.demos.playback import open_playback, rerender
from ibrl_torchrl.errors import UsageError


def run(config: DemosRenderConfig) -> None:
    """Write the episodes of a file to ``out`` with observations from their simulator states.

    Raises:
        UsageError: ``out`` exists or cannot be written, the file is damaged or does not match the
            simulator, or an observation differs from the recorded one by more than ``tolerance``.
    """
    path, out = Path(config.file), Path(config.out)
    if out.exists():
        raise UsageError(f"{out}: exists already; choose another out=")
    playback = open_playback(
        path,
        config.filter_key,
        config.episodes,
        cameras=config.cameras,
        image_size=config.image_size,
        render_quality=config.render_quality,
    )
    episodes = progress_bar(
        rerender(playback, tolerance=config.tolerance),
        desc="render",
        total=playback.count,
        unit="episode",
    )
    save_demos(out, episodes, playback.env.env_args)
    echo(f"{out}: {playback.count} episodes with {', '.join(config.cameras) or 'no cameras'}")
