"""``ibrl demos render FILE``: observations, images among them, from simulator states."""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.data import save_demos
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.training.config import DemosRenderConfig
from ibrl_torchrl.training.progress import bar, say
from ibrl_torchrl.training.replaying import open_source, render_again


def run(config: DemosRenderConfig) -> None:
    """Write a file with the same episodes, observed anew.

    Raises:
        UsageError: ``out`` exists or cannot be written, the file is damaged, it does not fit the
            simulator, or what was recorded comes out differently.
    """
    path, out = Path(config.file), Path(config.out)
    if out.exists():
        raise UsageError(f"{out}: exists already; choose another out=")
    source = open_source(
        path,
        config.filter_key,
        config.episodes,
        cameras=config.cameras,
        image_size=config.image_size,
        render_quality=config.render_quality,
    )
    episodes = render_again(source, tolerance=config.tolerance)
    shown = bar(episodes, desc="render", total=source.count, unit="episode")
    save_demos(out, shown, source.env.env_args)
    say(f"{out}: {source.count} episodes with {', '.join(config.cameras) or 'no cameras'}")
