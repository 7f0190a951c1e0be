"""``ibrl demos check FILE``: playback of recorded actions, counting successes."""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.config.commands import DemosCheckConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.data.demos.playback import open_playback, play_actions


def run(config: DemosCheckConfig) -> None:
    """Play back every episode's executed actions; print how many succeed, and fail, again.

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
        if result.success != result.recorded_success:
            outcome = "success" if result.success else "no success"
            echo(f"{result.name}: {outcome} in {result.length} steps")
    successes = [result for result in results if result.recorded_success]
    failures = [result for result in results if not result.recorded_success]
    repeated = f"{sum(result.success for result in successes)} of {len(successes)} episodes succeed"
    if failures:
        repeated += f" and {sum(not r.success for r in failures)} of {len(failures)} fail"
    deviation = max(result.deviation for result in results)
    echo(
        f"{path}: {repeated} again; positions are at most {deviation:.2g} (metres, radians) from "
        "the recorded ones"
    )
