"""``ibrl train``: demonstrations, BC, IBRL and evaluation in one run folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import torch

from ibrl_torchrl.training.builders import Agent, bc_policy, build_agent, build_env, build_rollouts
from ibrl_torchrl.training.collection import Collected, Collection
from ibrl_torchrl.training.config import TrainConfig
from ibrl_torchrl.training.episode_log import EpisodeLog
from ibrl_torchrl.training.fingerprint import inputs_of
from ibrl_torchrl.training.interruption import Interrupted, Interruption
from ibrl_torchrl.training.learner import Replay
from ibrl_torchrl.training.loop import NotFinite, Progress, train
from ibrl_torchrl.training.metrics import require_trackers
from ibrl_torchrl.training.origin import note_inputs
from ibrl_torchrl.training.prepare import (
    demo_keys,
    given_bc,
    given_demos,
    prepare_process,
    recorded_demos,
    require_images_fit,
    restore_bc,
    save_bc,
    trained_bc,
)
from ibrl_torchrl.training.progress import say
from ibrl_torchrl.training.recorder import Recorder
from ibrl_torchrl.training.replays import build_replay, require_replay_fits
from ibrl_torchrl.training.resume import settings_of
from ibrl_torchrl.training.rollouts import Rollouts
from ibrl_torchrl.training.run_folder import EPISODES, FAILED, in_run_folder, run_folder
from ibrl_torchrl.training.run_state import Records, RunState, Saved, load_saved
from ibrl_torchrl.training.scales import observation_scales


def run(config: TrainConfig) -> None:
    """Leave a run folder with everything that was learned and measured.

    ``demos.hdf5``, ``bc.pt``, ``checkpoint.pt``, ``best.pt``, ``episodes/``, ``train.csv`` (every
    ``log.every`` frames), ``eval.csv`` (every ``eval.every`` frames), ``evaluation.csv`` (the final
    episodes, one by one), ``curve.png``, ``timing.json``, beside ``config.yaml`` and ``run.json``.

    Raises:
        UsageError: something the user can mend.
        KeyboardInterrupt: Ctrl-C; the first one is answered with a checkpoint.
    """
    in_run_folder(_run, config if config.resume is None else settings_of(config))


def _run(config: TrainConfig) -> None:
    require_trackers(tensorboard=config.log.tensorboard, wandb=config.log.wandb)
    device = prepare_process(config.seed, config.threads, config.device)
    torch.set_float32_matmul_precision(config.matmul_precision)
    env = build_env(config.task, device)
    require_images_fit(env, config.bc.encoder, config.algo.encoder)
    keys = demo_keys(config.bc.encoder, config.algo.encoder)
    kept = keys if not config.replay.record_proposals else demo_keys(config.algo.encoder)
    require_replay_fits(config.replay, env, kept, config.task.frame_stack, config.run_dir)
    demos = given_demos(config.demos, config.task, env, keys)
    bc = given_bc(config.bc, config.task, env)
    with run_folder(config.run_dir, config, config.if_exists) as (run_dir, is_resumed):
        say(f"run folder: {run_dir}")
        saved = load_saved(run_dir, config.task.label) if is_resumed else None
        demos = demos or recorded_demos(config.demos, config.task, keys, run_dir)
        scales = observation_scales(config.task, env, demos.episodes)
        if saved is not None:
            bc = restore_bc(run_dir / "bc.pt", config.bc, config.task, env)
        elif bc is None:
            bc = trained_bc(config.bc, demos, scales, env, device)
        save_bc(run_dir / "bc.pt", bc, config.bc, config.task)
        note_inputs(run_dir, inputs_of(demos, bc))
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
    saved: Saved | None,
) -> None:
    """Train from the beginning or from what was saved, and record it."""
    progress = Progress() if saved is None else saved.progress
    collection = Collection(
        rollouts,
        seed=config.seed,
        warmup_episodes=config.algo.warmup_episodes,
        overlap=config.collector.overlap and config.collector.workers != 0,
        taken=progress.episodes,
        played=() if saved is None else saved.ahead,
    )
    label = config.task.label
    state = RunState(run_dir, label, agent.learner, replay, log, collection, progress)
    records = Records() if saved is None else saved.records
    recorder = Recorder(config, state, rollouts, records)
    with closing(recorder), Interruption() as interruption:
        if saved is None:
            recorder.evaluate(("bc",), config.eval.final_episodes)
        else:
            state.restore(saved, learns_on=progress.frames < config.frames)
            say(f"going on from frame {progress.frames}")

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
            say(f"the networks as they were then: {run_dir / FAILED}")
            raise
        except Interrupted:
            recorder.checkpoint()
            say(f"stopped; go on with: ibrl train resume={run_dir}")
            say(f"or evaluate what was learned with: ibrl eval {run_dir}")
            raise
        recorder.finish()


def _logged(collection: Collection, log: EpisodeLog) -> Iterator[Collected]:
    """The same episodes, written down as they are taken."""
    for collected in collection:
        log.append(collected.episode)
        yield collected
