"""``ibrl eval RUN``: how good are the hybrid, the RL actor alone and the BC policy?"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from ibrl_torchrl.builders.rollouts import build_rollouts
from ibrl_torchrl.config.commands import EvalRunConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.evaluation.evaluate import EvaluationJob
from ibrl_torchrl.evaluation.load import load_run
from ibrl_torchrl.evaluation.table import format_table, write_evaluation
from ibrl_torchrl.evaluation.video.scenes import policy_frames
from ibrl_torchrl.evaluation.video.writer import frame_size, save_video, video_path


def run(config: EvalRunConfig) -> None:
    """Rebuild a run's policies from its folder, evaluate them from the same start states, print
    the table, write every episode to ``out`` if it is given, and film the hybrid if ``video`` is.

    Raises:
        UsageError: the folder is not a run's, its checkpoint does not fit its configuration, or
            ``out`` or ``video`` cannot be written.
    """
    if config.out is not None and not Path(config.out).parent.is_dir():
        raise UsageError(f"out={config.out}: there is no such folder")
    run_dir = Path(config.run)
    run = load_run(
        run_dir,
        config.checkpoint,
        seed=config.seed,
        threads=config.threads,
        device=config.device,
    )
    video = video_path(config.video, run_dir / "video.mp4")
    seeds = range(config.seed, config.seed + config.episodes)
    rollouts = build_rollouts(config.workers, run.config.task, run.env, run.agent)
    with closing(rollouts):
        results = EvaluationJob(rollouts, [*run.agent.policies], seeds).results()
    echo(format_table(results))
    if config.out is not None:
        write_evaluation(Path(config.out), run.frames, results)
    if video is not None:
        seeds = range(config.seed, config.seed + config.video_episodes)
        frames = policy_frames(run.env, run.agent.policies["hybrid"], seeds, frame_size(video))
        save_video(video, progress_bar(frames, desc="video", unit="frame", leave=False))
        echo(f"video: {video}")
