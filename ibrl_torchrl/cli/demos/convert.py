"""``ibrl demos convert IN``: episodes of a run, a file or a dataset, in another format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from tensordict import TensorDictBase

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.config.commands import DemosConvertConfig
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.data.demos import save_demos
from ibrl_torchrl.data.demos.arrays import Selection
from ibrl_torchrl.data.demos.lerobot_write import save_lerobot
from ibrl_torchrl.data.demos.read import read_description, read_episodes
from ibrl_torchrl.envs.env_args import suite_of
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import NEXT, STATE
from ibrl_torchrl.runs.episode_log import read_log
from ibrl_torchrl.runs.folder import read_config
from ibrl_torchrl.runs.names import CONFIG, EPISODES

_FPS = 20


def run(config: DemosConvertConfig) -> None:
    """Write the episodes of ``file`` to ``out``, one at a time, and print how many there are.

    Raises:
        UsageError: ``out`` exists or cannot be written, or ``file`` is damaged or in no known
            format.
    """
    out = Path(config.out)
    if out.exists():
        raise UsageError(f"{out}: exists already; choose another out=")
    source = _open_source(config)
    counts = {"episodes": 0, "transitions": 0}
    episodes = progress_bar(_counted(source.episodes, counts), desc="convert", unit="episode")
    if config.to == "lerobot":
        save_lerobot(
            out,
            episodes,
            source.env_args,
            task=config.description,
            fps=config.fps or steps_per_second(source.env_args),
            images=config.images,
            proposals=source.proposals,
        )
    else:
        save_demos(out, episodes, source.env_args)
    echo(f"{out}: {counts['episodes']} episodes, {counts['transitions']} transitions")


class _Source(NamedTuple):
    """Episodes to convert.

    Attributes:
        episodes: TensorDicts [T].
        env_args: description of their environment.
        proposals: names of the policies whose indices ``proposal`` has.
    """

    episodes: Iterator[TensorDictBase]
    env_args: Mapping[str, Any]
    proposals: Sequence[str]


def _open_source(config: DemosConvertConfig) -> _Source:
    path = Path(config.file)
    run_dir = path.parent if path.name == EPISODES and (path.parent / CONFIG).is_file() else path
    if (run_dir / CONFIG).is_file():
        return _open_run(run_dir, config)
    selection = Selection(None, config.keys, config.filter_key, config.episodes, with_states=True)
    return _Source(read_episodes(path, selection), read_description(path), ())


def _open_run(run_dir: Path, config: DemosConvertConfig) -> _Source:
    """Episodes that the log of a run still holds."""
    for name, value in (("filter_key", config.filter_key), ("keys", config.keys)):
        if value:
            raise UsageError(f"{name}={value}: belongs to a file, {run_dir} is a run; leave it out")
    settings = parse(TrainConfig, read_config(run_dir))
    episodes = islice(read_log(run_dir / EPISODES), config.episodes)
    first = next(episodes)
    env_args = dict(build_env(settings.task).env_args)
    if STATE not in first[NEXT]:  # whose parts a file of robosuite would hold instead of proprio
        env_args.pop("state_parts", None)
    return _Source(chain([first], episodes), env_args, settings.algo.acting_proposals)


def _counted(
    episodes: Iterator[TensorDictBase], counts: dict[str, int]
) -> Iterator[TensorDictBase]:
    for episode in episodes:
        counts["episodes"] += 1
        counts["transitions"] += len(episode)
        yield episode


def steps_per_second(env_args: Mapping[str, Any]) -> int:
    """Actions per second of robosuite's environments, rounded; 20 of others."""
    if suite_of(env_args) != "robosuite":
        return _FPS
    rate = env_args.get("env_kwargs", {}).get("control_freq") or _FPS
    repeat = env_args.get("ibrl_torchrl", {}).get("action_repeat") or 1
    return max(1, round(rate / repeat))
