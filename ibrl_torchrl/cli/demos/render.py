"""``ibrl demos render FILE``: observations, images among them, from simulator states."""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.config.commands import DemosRenderConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.data.demos import save_demos
from ibrl_torchrl.data.demos.playback import open_playback, rerender
from ibrl_torchrl.errors import UsageError


def run(config: DemosRenderConfig) -> None:
    """Write a file with the same episodes, observed anew.

    Raises:
        UsageError: ``out`` exists or cannot be written, the file is damaged, it does not fit the
            simulator, or what was recorded comes out differently.
    """
    path, out = Path(config.file), Path(config.out)
    if out.exists():
        raise UsageError(f"{out}: exists already; choose another out=")
    source = open_playback(
        path,
        config.filter_key,
        config.episodes,
        cameras=config.cameras,
        image_size=config.image_size,
        render_quality=config.render_quality,
    )
    episodes = rerender(source, tolerance=config.tolerance)
    shown = progress_bar(episodes, desc="render", total=source.count, unit="episode")
    save_demos(out, shown, source.env.env_args)
    echo(f"{out}: {source.count} episodes with {', '.join(config.cameras) or 'no cameras'}")
