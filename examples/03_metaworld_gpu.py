"""The paper's Meta-World pixel setting in minutes of one large GPU.

Environments render in worker processes (EGL) while one learner runs compiled updates. Prints
environment steps and updates a second and success against steps, writes them to ``speed.csv``, and
goes on where it was stopped when it is called again with the same folder.

    python examples/03_metaworld_gpu.py --folder runs/gpu task=metaworld/assembly
    python examples/03_metaworld_gpu.py --minutes 9 --workers 14 --folder runs/gpu

Everything after the options is a setting of ``ibrl train``, such as ``frames=50000``.
"""

import argparse
import logging
import shutil
import time
import warnings
from functools import partial
from pathlib import Path

import torch
from torchrl.envs import ParallelEnv

from ibrl_torchrl.data import load_demos
from ibrl_torchrl.training.builders import bc_policy, build_agent, build_env
from ibrl_torchrl.training.checkpoint import load_checkpoint, load_state, save_checkpoint
from ibrl_torchrl.training.compose import composed
from ibrl_torchrl.training.config import TrainConfig, parse
from ibrl_torchrl.training.loop import train
from ibrl_torchrl.training.metrics import CsvTable
from ibrl_torchrl.training.prepare import (
    demo_keys,
    prepare_process,
    recorded_demos,
    restore_bc,
    save_bc,
    trained_bc,
)
from ibrl_torchrl.training.replays import build_replay
from ibrl_torchrl.training.report import evaluate_policies
from ibrl_torchrl.training.scales import observation_scales

GPU = ["device=cuda", "matmul_precision=high", "compile=reduce-overhead", "bc.steps=5000"]
GPU += ["algo.encoder.precision=bfloat16", "bc.encoder.precision=bfloat16"]
GPU += ["bc.encoder.channels_last=true", "bc.evaluate_every=null"]
COLUMNS = ["frames", "seconds", "env_steps_per_s", "updates_per_s", "loss_qvalue", "success"]


class OutOfTime(Exception):
    """The minutes asked for are over."""


def main() -> None:
    options, settings = arguments()
    started = time.perf_counter()
    folder = Path(options.folder)
    config = configured(folder, settings)
    device = prepare_process(config.seed, config.threads, config.device)
    torch.set_float32_matmul_precision(config.matmul_precision)
    task, encoders = config.task, (config.bc.encoder, config.algo.encoder)
    test_env = build_env(task, device)
    workers = ParallelEnv(options.workers, partial(build_env, task), device=device)

    # Demonstrations and the imitation policy: made once, then read.
    keys, bc_file = demo_keys(*encoders), folder / "bc.pt"
    if (folder / "demos.hdf5").exists():
        demos = load_demos(folder / "demos.hdf5", keys=keys, frame_stack=task.frame_stack)
    else:
        demos = recorded_demos(config.demos, task, keys, folder)
    scales = observation_scales(task, test_env, demos.episodes)
    if bc_file.exists():
        clone = restore_bc(bc_file, config.bc, task, test_env).to(device)
    else:
        clone = trained_bc(config.bc, demos, scales, test_env, device)
        save_bc(bc_file, clone, config.bc, task)
    print(f"demonstrations and BC after {time.perf_counter() - started:.0f} s")

    bc = bc_policy(clone, config.bc.encoder)
    agent = build_agent(
        config.algo,
        bc,
        scales,
        test_env,
        device,
        recorded_proposals=True,
        compile_mode=config.compile,
    )
    replay = build_replay(
        config.replay,
        config.algo.gamma,
        demos.episodes,
        folder / "replay",
        keys=demo_keys(config.algo.encoder),
        frame_stack=task.frame_stack,
        recorded=bc,
    )
    frames_before = resume(folder, agent.learner, replay)
    workers.set_seed(config.seed + frames_before)  # start states other than the last call's
    table = CsvTable(folder / "speed.csv", COLUMNS, append=True)
    last = {"frames": 0, "rounds": 0, "time": time.perf_counter(), "saved": time.perf_counter()}

    def report(progress, losses) -> None:
        now = time.perf_counter()
        out_of_time = now - started > 60 * options.minutes
        if out_of_time or now - last["saved"] > 60 * options.save_minutes:
            save(folder, agent.learner, replay, frames_before + progress.frames)
            last["saved"] = now
        if out_of_time:
            raise OutOfTime
        if progress.frames - last["frames"] < options.report_frames:
            return
        seeds = range(config.eval.seed, config.eval.seed + config.eval.episodes)
        policy = {"hybrid": agent.policies["hybrid"]}
        result = evaluate_policies(test_env, policy, seeds.start, len(seeds))["hybrid"]
        seconds, rounds = now - last["time"], progress.rounds - last["rounds"]
        row = {
            "frames": frames_before + progress.frames,
            "seconds": now - started,
            "env_steps_per_s": (progress.frames - last["frames"]) / seconds,
            "updates_per_s": rounds * config.algo.critic_updates / seconds,
            "loss_qvalue": losses.get("loss_qvalue", float("nan")),
            "success": result.success_rate,
        }
        table.write(row)
        print("  ".join(f"{key} {value:.5g}" for key, value in row.items()), flush=True)
        last.update(frames=progress.frames, rounds=progress.rounds, time=time.perf_counter())

    try:
        train(
            workers,
            agent.warmup,
            agent.explore,
            agent.learner,
            replay,
            frames=config.frames - frames_before,
            warmup_episodes=0 if frames_before else config.algo.warmup_episodes,
            update_every=config.algo.update_every,
            device=device,
            on_episode=report,
        )
        save(folder, agent.learner, replay, config.frames)
    except OutOfTime:
        print(f"{options.minutes} minutes are over; call again with the same folder to go on")
    finally:
        table.close()
        workers.close()


def arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", default="runs/gpu", help="everything is kept here")
    parser.add_argument("--minutes", type=float, default=9.5, help="stop after so many")
    parser.add_argument("--workers", type=int, default=14, help="environments, one a process")
    parser.add_argument("--report-frames", type=int, default=5000, help="frames between reports")
    parser.add_argument("--save-minutes", type=float, default=2.0, help="between checkpoints")
    return parser.parse_known_args()


def configured(folder: Path, settings: list[str]) -> TrainConfig:
    logging.getLogger("torchrl").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    overrides = ["experiment=paper_pixels", f"run_dir={folder}", *GPU, *settings]
    return parse(TrainConfig, composed("train", overrides))


def save(folder: Path, learner, replay, frames: int) -> None:
    """Write the replay, then the checkpoint that names it, then delete older replays."""
    saved = folder / f"replay_{frames}"
    replay.dumps(saved)
    save_checkpoint(folder / "gpu.pt", "gpu", {"frames": frames}, learner.state_dict())
    for older in set(folder.glob("replay_*")) - {saved}:
        shutil.rmtree(older)


def resume(folder: Path, learner, replay) -> int:
    """Load what the last call left; return its frames."""
    if not (folder / "gpu.pt").exists():
        return 0
    meta, state = load_checkpoint(folder / "gpu.pt", "gpu", {})
    load_state(learner.loss, state["loss"], folder / "gpu.pt")
    learner.critic_optimizer.load_state_dict(state["critic_optimizer"])
    learner.actor_optimizer.load_state_dict(state["actor_optimizer"])
    replay.loads(folder / f"replay_{int(meta['frames'])}")
    print(f"going on after {meta['frames']} frames, {len(replay)} transitions")
    return meta["frames"]


if __name__ == "__main__":
    main()
