"""``ibrl train``: demonstrations, BC, IBRL and evaluation in one run folder."""

from __future__ import annotations

import torch

from ibrl_torchrl.training.builders import bc_policy, build_agent, build_env
from ibrl_torchrl.training.config import TrainConfig
from ibrl_torchrl.training.fingerprint import inputs_of
from ibrl_torchrl.training.loop import Progress, train
from ibrl_torchrl.training.metrics import require_trackers
from ibrl_torchrl.training.prepare import (
    demo_keys,
    given_bc,
    given_demos,
    prepare_process,
    recorded_demos,
    require_images_fit,
    save_bc,
    trained_bc,
)
from ibrl_torchrl.training.progress import say
from ibrl_torchrl.training.recorder import Recorder
from ibrl_torchrl.training.replays import build_replay, require_replay_fits
from ibrl_torchrl.training.run_folder import create_run_folder, in_run_folder, note_inputs
from ibrl_torchrl.training.scales import observation_scales


def run(config: TrainConfig) -> None:
    """Leave a run folder with everything that was learned and measured.

    ``demos.hdf5``, ``bc.pt``, ``checkpoint.pt``, ``train.csv`` (every ``log.every`` frames),
    ``eval.csv`` (every ``eval.every`` frames), ``evaluation.csv`` (the final episodes, one by
    one), ``curve.png``, ``timing.json``, beside ``config.yaml`` and ``run.json``.

    Raises:
        UsageError: something the user can mend.
        KeyboardInterrupt: after the checkpoint was written.
    """
    in_run_folder(_run, config)


def _run(config: TrainConfig) -> None:
    require_trackers(tensorboard=config.log.tensorboard, wandb=config.log.wandb)
    device = prepare_process(config.seed, config.threads, config.device)
    torch.set_float32_matmul_precision(config.matmul_precision)
    env, eval_env = build_env(config.task, device), build_env(config.task, device)
    require_images_fit(env, config.bc.encoder, config.algo.encoder)
    keys = demo_keys(config.bc.encoder, config.algo.encoder)
    kept = keys if not config.replay.record_proposals else demo_keys(config.algo.encoder)
    require_replay_fits(config.replay, env, kept, config.task.frame_stack, config.run_dir)
    demos = given_demos(config.demos, config.task, env, keys)
    bc = given_bc(config.bc, config.task, env)
    run_dir = create_run_folder(config.run_dir, config, config.if_exists)
    say(f"run folder: {run_dir}")
    demos = demos or recorded_demos(config.demos, config.task, keys, run_dir)
    scales = observation_scales(config.task, eval_env, demos.episodes)
    bc = bc or trained_bc(config.bc, demos, scales, eval_env, device)
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
    recorder = Recorder(config, run_dir, agent, eval_env)
    recorder.evaluate(Progress(), ("bc",), config.eval.final_episodes)
    env.set_seed(config.seed)
    try:
        progress = train(
            env,
            agent.warmup,
            agent.explore,
            agent.learner,
            replay,
            frames=config.frames,
            warmup_episodes=config.algo.warmup_episodes,
            update_every=config.algo.update_every,
            device=device,
            on_episode=recorder.after_episode,
        )
        recorder.finish(progress)
    except KeyboardInterrupt:
        recorder.checkpoint()
        say(f"stopped; evaluate what was learned with: ibrl eval {run_dir}")
        raise
    finally:
        recorder.close()
