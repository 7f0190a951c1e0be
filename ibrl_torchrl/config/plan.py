"""Plan of a run in lines, from its settings alone: printed before anything slow is imported."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from ibrl_torchrl.config.train import TrainConfig

LEAST_FIRST_VALUE = 0.01  # about the error of critics
FIRST_VALUE = 0.1  # that a remedy asks for


class Budget(NamedTuple):
    """Budget of a run, given the length of its warm-up episodes.

    Attributes:
        warmup_frames: frames of the warm-up, not more than the budget.
        rounds: rounds of updates after it, or, with ``algo.warmup.updates``, in the whole run.
        updates: critic updates in these.
    """

    warmup_frames: int
    rounds: int
    updates: int


def budget(config: TrainConfig, episode_frames: float) -> Budget:
    """How a run divides ``total_frames``.

    Args:
        config: settings of the run.
        episode_frames: mean length of a warm-up episode in frames.

    Example:
        >>> from ibrl_torchrl.config.compose import composed
        >>> from ibrl_torchrl.config.parse import parse
        >>> config = parse(TrainConfig, composed("train", ["algo=ibrl", "total_frames=5000"]))
        >>> budget(config, episode_frames=100)
        Budget(warmup_frames=4000, rounds=500, updates=1000)
    """
    warmup = min(round(config.algo.warmup.episodes * episode_frames), config.total_frames)
    without = 0 if config.algo.warmup.updates else warmup
    rounds = (config.total_frames - without) // config.algo.update.frames_per_round
    return Budget(warmup, rounds, rounds * config.algo.update.critic_updates)


def warmup_warning(config: TrainConfig, episode_frames: float | None = None) -> str | None:
    """Warning that the budget ends within the warm-up, so that nothing is learnt; else None.

    Args:
        config: settings of the run.
        episode_frames: measured mean length of a warm-up episode; None (default) for the longest,
            ``task.horizon``, without which there is no warning.
    """
    episodes, length = config.algo.warmup.episodes, episode_frames or config.task.horizon
    if length is None:
        return None
    frames = round(episodes * length)
    if budget(config, length).rounds > 0:
        return None
    expected, may = ("up to", "may end") if episode_frames is None else ("about", "ends")
    fewer = int(config.total_frames / length)
    return (
        f"warning: total_frames={config.total_frames} {may} within the warm-up, {expected} "
        f"{frames} frames ({episodes} episodes of {expected} {length:.0f}), with 0 rounds of "
        f"updates; set total_frames above {frames} or algo.warmup.episodes below {max(1, fewer)}"
    )


def discount_warning(gamma: float, longest: int) -> str | None:
    """Warning that critics can hardly tell the first frames of demonstrations apart; else None.

    Args:
        gamma: discount factor of a frame.
        longest: frames of the longest demonstration, which end in success.

    Example:
        >>> discount_warning(0.97, 100)
        >>> discount_warning(0.97, 300).split("; ")[1]
        'set it to 0.9924 or more'
    """
    if (value := gamma**longest) >= LEAST_FIRST_VALUE:
        return None
    sufficient = math.ceil(1e4 * FIRST_VALUE ** (1 / longest)) / 1e4
    return (
        f"warning: with algo.loss.gamma={gamma:g} success is worth {value:.1g} at the start of the "
        f"longest demonstration, {longest} frames before; set it to {sufficient:g} or more"
    )


def plan(config: TrainConfig) -> list[str]:
    """What a run will do, one line a topic, and a warning where its budget may be too small."""
    rows = dict(_rows(config))
    width = max(map(len, rows)) + 2
    lines = [f"{f'{name}:':{width}}{text}" for name, text in rows.items()]
    warning = warmup_warning(config)
    return lines if warning is None else [*lines, warning]


def _episodes(count: int) -> str:
    return f"{count} episode{'' if count == 1 else 's'}"


def _division(config: TrainConfig) -> str:
    """Warm-up and updates of a run in words, with frames where the length of episodes is known."""
    warmup = f"a warm-up of {_episodes(config.algo.warmup.episodes)}"
    if config.task.horizon is None:
        return f"{warmup}, then rounds of updates"
    divided = budget(config, config.task.horizon)
    return (
        f"{warmup} ({divided.warmup_frames} frames at most), then {divided.rounds} rounds of "
        f"updates or more ({divided.updates} of the critics)"
    )


def _rows(config: TrainConfig) -> Iterator[tuple[str, str]]:
    task, algo, demos, evaluation = config.task, config.algo, config.demos, config.eval
    cameras = f", images of {', '.join(task.cameras)}" if task.cameras else ""
    length = "" if task.horizon is None else f", episodes of {task.horizon} frames at most"
    yield "task", f"{task.label}{length}{cameras}"
    origin = "recorded by the scripted expert" if demos.path is None else f"of {demos.path}"
    yield "demonstrations", f"{_episodes(demos.episodes)} {origin}"
    policies = (
        f"{name} ({policy.policy}, {policy.path or f'{policy.steps} steps'})"
        for name, policy in config.imitation.items()
    )
    yield "imitation", ", ".join(policies) or "none"
    proposals = ", ".join(algo.acting_proposals)
    yield "method", f"{algo.name}, acting by {proposals}; seed {config.seed}, {config.device}"
    yield "budget", f"{config.total_frames} frames: {_division(config)}"
    yield (
        "evaluations",
        f"{_episodes(evaluation.episodes)} each {evaluation.every} frames, "
        f"{evaluation.final_episodes} of each policy at the end",
    )
    yield "time", "measured when learning has begun"
    yield "run folder", config.run_dir
