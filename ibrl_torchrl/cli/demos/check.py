"""``ibrl demos check FILE``: do the recorded actions still solve the task?"""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.config.commands import DemosCheckConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.data.demos.playback import open_playback, play_actions


def run(config: DemosCheckConfig) -> None:
    """Replay every episode's actions in the simulator and tell what became of them.

    Raises:
        UsageError: the file is damaged, or does not fit the simulator.
    """
    path = Path(config.file)
    source = open_playback(path, config.filter_key, config.episodes, cameras=[])
    outcomes = []
    for outcome in progress_bar(
        play_actions(source), desc="replay", total=source.count, unit="episode"
    ):
        outcomes.append(outcome)
        if not outcome.success:
            echo(f"{outcome.name}: no success in {outcome.length} steps")
    successes = sum(outcome.success for outcome in outcomes)
    deviation = max(outcome.deviation for outcome in outcomes)
    echo(
        f"{path}: {successes} of {source.count} episodes succeed again; positions are at most "
        f"{deviation:.2g} (metres, radians) from the recorded ones"
    )
