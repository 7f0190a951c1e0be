"""``ibrl eval RUN``: success rates of a run's hybrid, RL actor and imitation policies."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from ibrl_torchrl.builders.rollouts import build_rollouts
from ibrl_torchrl.config.commands import EvalRunConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.evaluation.evaluate import EvaluationJob
from ibrl_torchrl.evaluation.load import LoadedRun, load_run
from ibrl_torchrl.evaluation.table import format_table, write_evaluation
from ibrl_torchrl.evaluation.video.scenes import policy_frames, require_camera
from ibrl_torchrl.evaluation.video.writer import frame_size, save_video, video_path
from ibrl_torchrl.keys import HYBRID
from ibrl_torchrl.runs.names import VIDEO


def run(config: EvalRunConfig) -> None:
    """Evaluate a run's policies from the same initial states and print a table.

    Write the episodes to ``out`` and a video of the hybrid to ``video`` if these are set.

    Raises:
        UsageError: the folder is not a run folder, its checkpoint does not match its configuration,
            or ``out`` or ``video`` cannot be written.
    """
    if config.out is not None and not Path(config.out).parent.is_dir():
        raise UsageError(f"out={config.out}: there is no such folder")
    if config.out is not None and Path(config.out).is_dir():
        raise UsageError(f"out={config.out}: is a folder; name a file in it")
    run_dir = Path(config.run)
    run = load_run(
        run_dir, config.checkpoint, seed=config.seed, threads=config.threads, device=config.device
    )
    video = video_path(config.video, run_dir / VIDEO)
    if video is not None:
        require_camera(run.env, config.video_camera, frame_size(video))
    _evaluate(config, run)
    if video is not None:
        _save_video(video, config, run)


def _evaluate(config: EvalRunConfig, run: LoadedRun) -> None:
    assert config.workers is not None  # the configuration replaces None by a number
    agent = run.agent
    seeds = range(config.seed, config.seed + config.episodes)
    with closing(
        build_rollouts(
            config.workers,
            run.config.task,
            run.env,
            agent.policies,
            episode_timeout=run.config.collector.episode_timeout,
        )
    ) as rollouts:
        results = EvaluationJob(rollouts, [*agent.policies], seeds, agent.proposals).results()
    echo(format_table(results))
    if config.out is not None:
        write_evaluation(Path(config.out), {run.frames: results}, agent.proposals)


def _save_video(path: Path, config: EvalRunConfig, run: LoadedRun) -> None:
    seeds = range(config.seed, config.seed + config.video_episodes)
    hybrid, proposals = run.agent.policies[HYBRID], run.agent.proposals
    frames = policy_frames(run.env, hybrid, seeds, frame_size(path), proposals, config.video_camera)
    save_video(path, progress_bar(frames, desc="video", unit="frame", leave=False))
    echo(f"video: {path}")
