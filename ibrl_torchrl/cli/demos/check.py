"""``ibrl demos check FILE``: playback of recorded actions, counting successes."""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.config.commands import DemosCheckConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.data.demos.playback import open_playback, play_actions


def run(config: DemosCheckConfig) -> None:
    """Play back every episode's actions in the simulator; print the number of successes.

    Raises:
        UsageError: the file is damaged or does not match the simulator.
    """
    path = Path(config.file)
    playback = open_playback(path, config.filter_key, config.episodes, cameras=[])
    results = []
    for result in progress_bar(
        play_actions(playback), desc="playback", total=playback.count, unit="episode"
    ):
        results.append(result)
        if not result.success:
            echo(f"{result.name}: no success in {result.length} steps")
    successes = sum(result.success for result in results)
    deviation = max(result.deviation for result in results)
    echo(
        f"{path}: {successes} of {playback.count} episodes succeed again; positions are at most "
        f"{deviation:.2g} (metres, radians) from the recorded ones"
    )
