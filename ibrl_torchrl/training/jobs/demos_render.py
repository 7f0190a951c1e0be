"""``ibrl demos render FILE``: observations, images among them, from simulator states."""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.data import save_demos
from ibrl_torchrl.data.description import read_description
from ibrl_torchrl.data.recordings import read_recordings
from ibrl_torchrl.envs import make_env_like
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.training.config import DemosRenderConfig
from ibrl_torchrl.training.progress import bar, say
from ibrl_torchrl.training.replaying import render_again


def run(config: DemosRenderConfig) -> None:
    """Write a file with the same episodes, observed anew.

    Raises:
        UsageError: ``out`` exists or cannot be written, the file is damaged, it does not fit the
            simulator, or what was recorded comes out differently.
    """
    path, out = Path(config.file), Path(config.out)
    if out.exists():
        raise UsageError(f"{out}: exists already; choose another out=")
    about = read_description(path, config.filter_key)
    count = min(len(about.episodes), config.episodes or len(about.episodes))
    env = make_env_like(
        about.env_args,
        horizon=max(about.lengths) + 1,
        cameras=config.cameras,
        image_size=config.image_size,
        render_quality=config.render_quality,
    )
    recordings = read_recordings(path, filter_key=config.filter_key, max_episodes=count)
    episodes = render_again(env, recordings, about.env_args, tolerance=config.tolerance)
    save_demos(out, bar(episodes, desc="render", total=count, unit="episode"), env.env_args)
    say(f"{out}: {count} episodes with {', '.join(config.cameras) or 'no cameras'}")
