"""``ibrl demos check FILE``: do the recorded actions still solve the task?"""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.data.description import read_description
from ibrl_torchrl.data.recordings import read_recordings
from ibrl_torchrl.envs import make_env_like
from ibrl_torchrl.training.config import DemosCheckConfig
from ibrl_torchrl.training.progress import bar, say
from ibrl_torchrl.training.replaying import replay_actions


def run(config: DemosCheckConfig) -> None:
    """Replay every episode's actions in the simulator and tell what became of them.

    Raises:
        UsageError: the file is damaged, or does not fit the simulator.
    """
    path = Path(config.file)
    about = read_description(path, config.filter_key)
    count = min(len(about.episodes), config.episodes or len(about.episodes))
    env = make_env_like(about.env_args, horizon=max(about.lengths), cameras=[])
    recordings = read_recordings(path, filter_key=config.filter_key, max_episodes=count)
    outcomes = []
    for outcome in bar(
        replay_actions(env, recordings, about.env_args),
        desc="replay",
        total=count,
        unit="episode",
    ):
        outcomes.append(outcome)
        if not outcome.success:
            say(f"{outcome.name}: no success in {outcome.length} steps")
    successes = sum(outcome.success for outcome in outcomes)
    deviation = max(outcome.deviation for outcome in outcomes)
    say(
        f"{path}: {successes} of {count} episodes succeed again; positions are at most "
        f"{deviation:.2g} (metres, radians) from the recorded ones"
    )
