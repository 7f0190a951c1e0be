"""The three stages of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import torch

from ibrl_torchrl.builders.agent import Agent, bc_policy, build_agent
from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.imitation import given_bc, restore_bc, save_bc
from ibrl_torchrl.builders.normalization import observation_scales
from ibrl_torchrl.builders.replay import build_replay, require_replay_fits
from ibrl_torchrl.builders.rollouts import build_rollouts
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.data.replay.buffer import Replay
from ibrl_torchrl.rollouts.collector import CollectedEpisode, EpisodeCollector
from ibrl_torchrl.rollouts.episode import Rollouts
from ibrl_torchrl.runs.episode_log import EpisodeLog
from ibrl_torchrl.runs.folder import EPISODES, FAILED, open_run_folder
from ibrl_torchrl.runs.provenance import input_fingerprints, write_inputs
from ibrl_torchrl.runs.trackers import require_trackers
from ibrl_torchrl.runtime import Interrupted, InterruptHandler, setup_process
from ibrl_torchrl.training.demonstrations import (
    demo_keys,
    given_demos,
    recorded_demos,
    require_images_fit,
)
from ibrl_torchrl.training.imitation import trained_bc
from ibrl_torchrl.training.logger import RunLogger
from ibrl_torchrl.training.loop import Counters, NotFinite, train
from ibrl_torchrl.training.state import Checkpoint, LoggerState, TrainingState, read_checkpoint


def run_pipeline(config: TrainConfig) -> None:
    require_trackers(tensorboard=config.log.tensorboard, wandb=config.log.wandb)
    device = setup_process(config.seed, config.threads, config.device)
    torch.set_float32_matmul_precision(config.matmul_precision)
    env = build_env(config.task, device)
    require_images_fit(env, config.bc.encoder, config.algo.encoder)
    keys = demo_keys(config.bc.encoder, config.algo.encoder)
    kept = keys if not config.replay.record_proposals else demo_keys(config.algo.encoder)
    require_replay_fits(config.replay, env, kept, config.task.frame_stack, config.run_dir)
    demos = given_demos(config.demos, config.task, env, keys)
    bc = given_bc(config.bc, config.task, env)
    with open_run_folder(config.run_dir, config, config.if_exists) as (run_dir, is_resumed):
        echo(f"run folder: {run_dir}")
        saved = read_checkpoint(run_dir, config.task.label) if is_resumed else None
        demos = demos or recorded_demos(config.demos, config.task, keys, run_dir)
        scales = observation_scales(config.task, env, demos.episodes)
        if saved is not None:
            bc = restore_bc(run_dir / "bc.pt", config.bc, config.task, env)
        elif bc is None:
            bc = trained_bc(config.bc, demos, scales, env, device)
        save_bc(run_dir / "bc.pt", bc, config.bc, config.task)
        write_inputs(run_dir, input_fingerprints(demos, bc))
        policy = bc_policy(bc, config.bc.encoder)
        agent = build_agent(
            config.algo,
            policy,
            scales,
            env,
            device,
            recorded_proposals=config.replay.record_proposals,
            compile_mode=config.compile,
        )
        replay = build_replay(
            config.replay,
            config.algo.gamma,
            demos.episodes,
            run_dir / "replay",
            keys=kept,
            frame_stack=config.task.frame_stack,
            recorded=policy if config.replay.record_proposals else None,
            bring_demos=config.algo.bc_weight > 0,
        )
        log = EpisodeLog(
            run_dir / EPISODES,
            keys,
            frame_stack=config.task.frame_stack,
            state_stack=config.task.state_stack,
        )
        rollouts = build_rollouts(config.collector.workers, config.task, env, agent)
        with closing(rollouts):
            _learn(config, run_dir, agent, replay, log, rollouts, device, saved)


def _learn(
    config: TrainConfig,
    run_dir: Path,
    agent: Agent,
    replay: Replay,
    log: EpisodeLog,
    rollouts: Rollouts,
    device: torch.device,
    saved: Checkpoint | None,
) -> None:
    """Train from the beginning or from what was saved, and record it."""
    progress = Counters() if saved is None else saved.progress
    collection = EpisodeCollector(
        rollouts,
        seed=config.seed,
        warmup_episodes=config.algo.warmup_episodes,
        overlap=config.collector.overlap and config.collector.workers != 0,
        taken=progress.episodes,
        played=() if saved is None else saved.ahead,
    )
    label = config.task.label
    state = TrainingState(run_dir, label, agent.learner, replay, log, collection, progress)
    records = LoggerState() if saved is None else saved.records
    recorder = RunLogger(config, state, rollouts, records)
    with closing(recorder), InterruptHandler() as interruption:
        if saved is None:
            recorder.evaluate(("bc",), config.eval.final_episodes)
        else:
            state.restore(saved, learns_on=progress.frames < config.frames)
            echo(f"going on from frame {progress.frames}")

        def after_episode(report: dict[str, float]) -> None:
            recorder.after_episode(report)
            interruption.check()

        try:
            train(
                _logged(collection, log),
                agent.learner,
                replay,
                progress,
                frames=config.frames,
                update_every=config.algo.update_every,
                device=device,
                on_episode=after_episode,
            )
        except NotFinite:
            state.save_networks(FAILED, progress.frames, agent.loss.state_dict())
            echo(f"the networks as they were then: {run_dir / FAILED}")
            raise
        except Interrupted:
            recorder.checkpoint()
            echo(f"stopped; go on with: ibrl train resume={run_dir}")
            echo(f"or evaluate what was learned with: ibrl eval {run_dir}")
            raise
        recorder.finish()


def _logged(collection: EpisodeCollector, log: EpisodeLog) -> Iterator[CollectedEpisode]:
    """The same episodes, written down as they are taken."""
    for collected in collection:
        log.append(collected.episode)
        yield collected
